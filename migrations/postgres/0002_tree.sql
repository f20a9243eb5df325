-- The Merkle tree over the log (RFC 6962), in tiles of 256 hashes (C2SP tlog-tiles). Only complete tiles are kept: they never
-- change. `root` is the tile's own root, one hash of the level above; it stands before `hashes` so that it is read without them.
CREATE TABLE tile (
  level  smallint NOT NULL,
  idx    bigint   NOT NULL,
  root   bytea    NOT NULL,
  hashes bytea    NOT NULL, -- 256 hashes of 32 bytes
  PRIMARY KEY (level, idx)
);

-- The newest signed checkpoint that was made when the last batch was written.
CREATE TABLE checkpoint (
  id   integer NOT NULL PRIMARY KEY CHECK (id = 1),
  size bigint  NOT NULL,
  note text    NOT NULL
);

-- The tree's root at the log's end. A broker that finds another one there than its own tree has is not at the log that it knows.
ALTER TABLE log_head ADD COLUMN root bytea;
