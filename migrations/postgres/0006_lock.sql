-- Locks: nothing is issued for what they are on. `kind` says whether `one` and `two` are a user's issuer and subject (0), a
-- session (1), a grant and where its renewals come from (2), a cluster (3), or nothing, where everything is locked (4). One of
-- everything is lifted by two people: the first one's asking stands in `asked_…`.
CREATE TABLE lock (
  id             bytea    NOT NULL PRIMARY KEY,
  kind           smallint NOT NULL,
  one            text     NOT NULL,
  two            text     NOT NULL,
  set_by         text     NOT NULL,
  reason         text     NOT NULL,
  at             bigint   NOT NULL,
  until          bigint,
  asked_provider text,
  asked_issuer   text,
  asked_subject  text,
  asked_user     text,
  asked_until    bigint,
  ended_by       text,
  ended_at       bigint
);
CREATE INDEX lock_set ON lock (kind, one, two) WHERE ended_at IS NULL;

-- Sessions of one user end with a lock, and are looked up by the value behind `user:`.
CREATE INDEX session_by_subject ON session (subject, issuer);
CREATE INDEX session_by_user ON session ("user");
