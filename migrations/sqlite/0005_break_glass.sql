-- Requests for elevated access that others must approve. `contents` is the exact text that approvals are over, `hash` its
-- SHA-256, `tag` the broker's own mark on it; `human` tells people apart, whatever account they use.
CREATE TABLE break_glass (
  id          BLOB    NOT NULL PRIMARY KEY,
  state       INTEGER NOT NULL,
  provider    TEXT    NOT NULL,
  issuer      TEXT    NOT NULL,
  subject     TEXT    NOT NULL,
  human       BLOB    NOT NULL,
  cluster     TEXT    NOT NULL,
  contents    TEXT    NOT NULL,
  hash        BLOB    NOT NULL,
  tag         BLOB    NOT NULL,
  quorum      INTEGER NOT NULL,
  uses        INTEGER NOT NULL,
  life        INTEGER NOT NULL,
  waits_until INTEGER NOT NULL,
  good_until  INTEGER,
  used        INTEGER NOT NULL,
  jkt         TEXT,
  closed_by   TEXT,
  closed_at   INTEGER,
  comment     TEXT,
  label       TEXT,
  note        TEXT,
  reviewed_by TEXT,
  reviewed_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX break_glass_by_state   ON break_glass (state);
CREATE INDEX break_glass_by_person  ON break_glass (provider, issuer, subject, state);
CREATE INDEX break_glass_by_cluster ON break_glass (cluster);
CREATE INDEX break_glass_waiting    ON break_glass (waits_until) WHERE state = 0;
CREATE INDEX break_glass_good       ON break_glass (good_until) WHERE state = 1;

-- One human approves one request once.
CREATE TABLE break_glass_approval (
  request  BLOB    NOT NULL,
  human    BLOB    NOT NULL,
  hash     BLOB    NOT NULL,
  provider TEXT    NOT NULL,
  issuer   TEXT    NOT NULL,
  subject  TEXT    NOT NULL,
  name     TEXT    NOT NULL,
  user     TEXT    NOT NULL,
  session  BLOB    NOT NULL,
  comment  TEXT,
  at       INTEGER NOT NULL,
  tag      BLOB    NOT NULL,
  PRIMARY KEY (request, human)
) STRICT, WITHOUT ROWID;

-- Grants made under a request. One that led to no certificate was given back.
CREATE TABLE break_glass_use (
  grant_id BLOB    NOT NULL PRIMARY KEY,
  request  BLOB    NOT NULL,
  at       INTEGER NOT NULL,
  returned INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX break_glass_use_by_request ON break_glass_use (request, at);
