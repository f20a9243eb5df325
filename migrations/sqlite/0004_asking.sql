-- Certificates by the first 32 bits of their serial number and of their fingerprint, so that one is found by either. What is
-- found is compared with the body. Only `issued` entries have rows here: two each, some 30 bytes.
CREATE TABLE certificate (
  prefix INTEGER NOT NULL,
  idx    INTEGER NOT NULL,
  PRIMARY KEY (prefix, idx)
) STRICT, WITHOUT ROWID;

-- How far each forwarding of the log has come: the place of the entry that is next.
CREATE TABLE forward (
  name TEXT    NOT NULL PRIMARY KEY,
  next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Requests to drop bodies, until a second person approves. Whose bodies they are stands here and not in the log, which keeps
-- every word for ever; it is forgotten when the request is done.
CREATE TABLE drop_request (
  id          BLOB    NOT NULL PRIMARY KEY,
  provider    TEXT    NOT NULL,
  issuer      TEXT    NOT NULL,
  subject     TEXT    NOT NULL,
  person      TEXT,
  before      INTEGER NOT NULL,
  next        INTEGER NOT NULL, -- the place to go on at
  expires_at  INTEGER NOT NULL,
  approved_at INTEGER,
  done_at     INTEGER
) STRICT, WITHOUT ROWID;
