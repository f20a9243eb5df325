-- What is told elsewhere, and what follows from it.

-- A request that nobody approves: it waits until someone outside has taken the notification of it.
ALTER TABLE break_glass ADD COLUMN self_service INTEGER NOT NULL DEFAULT 0;
-- When it was last said that a use waits for its review.
ALTER TABLE break_glass ADD COLUMN reminded_at INTEGER;
-- When a node was first called under a grant.
ALTER TABLE break_glass_use ADD COLUMN touched_at INTEGER;

-- Who took the notification of exactly this request; `tag` is the broker's own mark on it.
CREATE TABLE break_glass_told (
  request BLOB    NOT NULL PRIMARY KEY,
  hash    BLOB    NOT NULL,
  sink    TEXT    NOT NULL,
  at      INTEGER NOT NULL,
  tag     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
