-- Certificates by the first 32 bits of their serial number and of their fingerprint, so that one is found by either. What is
-- found is compared with the body. Only `issued` entries have rows here: two each.
CREATE TABLE certificate (
  prefix bigint NOT NULL,
  idx    bigint NOT NULL,
  PRIMARY KEY (prefix, idx)
);

-- How far each forwarding of the log has come: the place of the entry that is next.
CREATE TABLE forward (
  name text   NOT NULL PRIMARY KEY,
  next bigint NOT NULL
);

-- Requests to drop bodies, until a second person approves. Whose bodies they are stands here and not in the log, which keeps
-- every word for ever; it is forgotten when the request is done.
CREATE TABLE drop_request (
  id          bytea  NOT NULL PRIMARY KEY,
  provider    text   NOT NULL,
  issuer      text   NOT NULL,
  subject     text   NOT NULL,
  person      text,
  before      bigint NOT NULL,
  next        bigint NOT NULL, -- the place to go on at
  expires_at  bigint NOT NULL,
  approved_at bigint,
  done_at     bigint
);

-- How often persons were forgotten with the last of their bodies. A broker that remembers numbers of names from before another
-- such time forgets them.
ALTER TABLE log_head ADD COLUMN forgotten bigint NOT NULL DEFAULT 0;
