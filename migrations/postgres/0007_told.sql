-- What is told elsewhere, and what follows from it.

-- Which broker goes on from a place in the log, and until when, so that of several one tells at a time.
CREATE TABLE forward_holder (
  name   text   NOT NULL PRIMARY KEY,
  holder bytea  NOT NULL,
  until  bigint NOT NULL
);

-- A request that nobody approves: it waits until someone outside has taken the notification of it.
ALTER TABLE break_glass ADD COLUMN self_service smallint NOT NULL DEFAULT 0;
-- When it was last said that a use waits for its review.
ALTER TABLE break_glass ADD COLUMN reminded_at bigint;
-- When a node was first called under a grant.
ALTER TABLE break_glass_use ADD COLUMN touched_at bigint;

-- Who took the notification of exactly this request; `tag` is the broker's own mark on it.
CREATE TABLE break_glass_told (
  request bytea  NOT NULL PRIMARY KEY,
  hash    bytea  NOT NULL,
  sink    text   NOT NULL,
  at      bigint NOT NULL,
  tag     bytea  NOT NULL
);
