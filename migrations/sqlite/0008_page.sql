-- What a configured claim tells of the human behind an account: nothing where none is configured, empty where it tells nothing,
-- else a SHA-256. And what a browser's own session may do at the pages: nothing for a client's session.
ALTER TABLE session ADD COLUMN human BLOB;
ALTER TABLE session ADD COLUMN page BLOB;
ALTER TABLE drop_request ADD COLUMN human BLOB;
ALTER TABLE lock ADD COLUMN asked_human BLOB;
