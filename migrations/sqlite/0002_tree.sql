-- The Merkle tree over the log (RFC 6962), in tiles of 256 hashes (C2SP tlog-tiles). Only complete tiles are kept: they never
-- change. `root` is the tile's own root, one hash of the level above; it stands before `hashes` so that it is read without them.
CREATE TABLE tile (
  level  INTEGER NOT NULL,
  idx    INTEGER NOT NULL,
  root   BLOB    NOT NULL,
  hashes BLOB    NOT NULL, -- 256 hashes of 32 bytes
  PRIMARY KEY (level, idx)
) STRICT;

-- The newest signed checkpoint that was made when the last batch was written.
CREATE TABLE checkpoint (
  id   INTEGER PRIMARY KEY CHECK (id = 1),
  size INTEGER NOT NULL,
  note TEXT    NOT NULL
) STRICT;
