-- Calls that nodes told of in their logs. Names are kept once each and go with the last call that has them, so that the
-- quota on calls bounds them too.
CREATE TABLE call_node (
  id      INTEGER PRIMARY KEY,
  cluster TEXT NOT NULL,
  name    TEXT NOT NULL,
  UNIQUE (cluster, name)
) STRICT;

CREATE TABLE call_method (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- `user:` values of calls without an owner.
CREATE TABLE call_user (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- `id` counts without a gap, `batch` is the index of the log's entry that has the digest, and never decreases along `id`.
-- A call has an owner (a log_person) or a user (a call_user), or neither.
CREATE TABLE call (
  id       INTEGER PRIMARY KEY,
  batch    INTEGER NOT NULL,
  node     INTEGER NOT NULL,
  service  INTEGER NOT NULL,
  method   INTEGER NOT NULL,
  code     INTEGER,
  started  INTEGER NOT NULL,
  duration INTEGER NOT NULL,
  roles    TEXT    NOT NULL,
  owner    INTEGER,
  user     INTEGER,
  grant_id BLOB,
  peer     TEXT,
  class    INTEGER NOT NULL,
  why      TEXT,
  entry    INTEGER
) STRICT;
CREATE INDEX call_by_node   ON call (node, started);
CREATE INDEX call_by_method ON call (method, node, started);
CREATE INDEX call_by_owner  ON call (owner, started, node, method) WHERE owner IS NOT NULL;
CREATE INDEX call_by_user   ON call (user, started, node, method) WHERE user IS NOT NULL;
CREATE INDEX call_by_grant  ON call (grant_id, started) WHERE grant_id IS NOT NULL;
CREATE INDEX call_by_class  ON call (class, started, node, method) WHERE class <> 0;

-- When a node's service was last heard of.
CREATE TABLE node_seen (
  cluster TEXT    NOT NULL,
  node    TEXT    NOT NULL,
  service INTEGER NOT NULL,
  line    INTEGER NOT NULL,
  probe   INTEGER,
  PRIMARY KEY (cluster, node, service)
) STRICT, WITHOUT ROWID;
