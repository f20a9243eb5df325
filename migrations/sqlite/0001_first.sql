-- Times are microseconds since the epoch, ids 16 bytes (UUIDv7), hashes 32 bytes (SHA-256).

-- A logged-in client. The token itself is kept nowhere.
CREATE TABLE session (
  id             BLOB    NOT NULL PRIMARY KEY,
  token_hash     BLOB    NOT NULL UNIQUE,
  jkt            TEXT    NOT NULL,
  provider       TEXT    NOT NULL,
  issuer         TEXT    NOT NULL,
  subject        TEXT    NOT NULL,
  name           TEXT    NOT NULL,
  user           TEXT    NOT NULL,
  groups         TEXT    NOT NULL, -- JSON: [[provider, name], …]
  groups_at      INTEGER NOT NULL,
  acr            TEXT,
  auth_time      INTEGER,
  refresh_sealed BLOB,
  version        INTEGER NOT NULL,
  created_at     INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL,
  used_at        INTEGER NOT NULL,
  ended_at       INTEGER,
  lease_until    INTEGER,          -- someone asks the provider again until then
  tag            BLOB    NOT NULL  -- HMAC-SHA-256 over what decides, with a key that is not in the database
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_expiry ON session (expires_at);

-- A login on its way.
CREATE TABLE login (
  id          BLOB    NOT NULL PRIMARY KEY,
  version     INTEGER NOT NULL,
  cookie_hash BLOB    NOT NULL,
  code_hash   BLOB    UNIQUE,
  state       BLOB    NOT NULL,
  expires_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX login_by_cookie ON login (cookie_hash);
CREATE INDEX login_by_expiry ON login (expires_at);

-- A device login on its way (RFC 8628).
CREATE TABLE device (
  id          BLOB    NOT NULL PRIMARY KEY,
  version     INTEGER NOT NULL,
  device_hash BLOB    NOT NULL UNIQUE,
  user_code   TEXT    NOT NULL UNIQUE,
  state       BLOB    NOT NULL,
  expires_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX device_by_expiry ON device (expires_at);

-- A provider's alias, pinned to the issuer of its first use.
CREATE TABLE provider (
  alias  TEXT NOT NULL PRIMARY KEY,
  issuer TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Persons and clusters as the log names them, once each, so that the log's columns and indexes stay narrow.
CREATE TABLE log_person (
  id       INTEGER PRIMARY KEY,
  provider TEXT NOT NULL,
  issuer   TEXT NOT NULL,
  subject  TEXT NOT NULL,
  user     TEXT NOT NULL,
  UNIQUE (subject, issuer, provider, user)
) STRICT;
CREATE INDEX log_person_by_user ON log_person (user);

CREATE TABLE log_cluster (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- The log. `idx` counts from 0 without a gap; times never decrease, so a time is found by bisecting `idx`.
-- kind, person (a log_person), cluster (a log_cluster) and grant_id repeat what the body says; `audit verify` recomputes
-- them, which is more than a foreign key would check, and an append is spared three look-ups.
CREATE TABLE leaf (
  idx      INTEGER PRIMARY KEY,
  time     INTEGER NOT NULL,
  kind     INTEGER NOT NULL,
  person   INTEGER,
  cluster  INTEGER,
  grant_id BLOB,
  leaf     BLOB    NOT NULL
) STRICT;
CREATE INDEX leaf_by_kind    ON leaf (kind, idx);
CREATE INDEX leaf_by_person  ON leaf (person, kind, idx, cluster) WHERE person IS NOT NULL;
CREATE INDEX leaf_by_cluster ON leaf (cluster, kind, idx) WHERE cluster IS NOT NULL;
CREATE INDEX leaf_by_grant   ON leaf (grant_id, idx) WHERE grant_id IS NOT NULL;

-- The bodies, apart, so that one can be dropped while its leaf stays.
CREATE TABLE body (
  idx  INTEGER PRIMARY KEY,
  body BLOB NOT NULL
) STRICT;

-- What readiness writes to.
CREATE TABLE probe (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  n  INTEGER NOT NULL
) STRICT;
INSERT INTO probe (id, n) VALUES (1, 0);
