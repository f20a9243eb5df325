-- Locks: nothing is issued for what they are on. `kind` says whether `one` and `two` are a user's issuer and subject (0), a
-- session (1), a grant and where its renewals come from (2), a cluster (3), or nothing, where everything is locked (4). One of
-- everything is lifted by two people: the first one's asking stands in `asked_…`.
CREATE TABLE lock (
  id             BLOB    NOT NULL PRIMARY KEY,
  kind           INTEGER NOT NULL,
  one            TEXT    NOT NULL,
  two            TEXT    NOT NULL,
  set_by         TEXT    NOT NULL,
  reason         TEXT    NOT NULL,
  at             INTEGER NOT NULL,
  until          INTEGER,
  asked_provider TEXT,
  asked_issuer   TEXT,
  asked_subject  TEXT,
  asked_user     TEXT,
  asked_until    INTEGER,
  ended_by       TEXT,
  ended_at       INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX lock_set ON lock (kind, one, two) WHERE ended_at IS NULL;

-- Sessions of one user end with a lock, and are looked up by the value behind `user:`.
CREATE INDEX session_by_subject ON session (subject, issuer);
CREATE INDEX session_by_user ON session (user);
