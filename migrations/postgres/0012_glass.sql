-- When a request was made: how many a human makes is bounded.
ALTER TABLE break_glass ADD COLUMN asked_at bigint;
CREATE INDEX break_glass_by_human ON break_glass (human, state);
CREATE INDEX break_glass_by_asking ON break_glass (human, asked_at) WHERE asked_at IS NOT NULL;

-- When the certificate of a use was recorded. A use without one, whose broker has stopped, is given back. Of what was used before
-- this column nobody knows better than that there is one.
ALTER TABLE break_glass_use ADD COLUMN issued_at bigint;
UPDATE break_glass_use SET issued_at = at WHERE returned = 0;
CREATE INDEX break_glass_use_open ON break_glass_use (at) WHERE returned = 0 AND issued_at IS NULL;

-- Calls by certificates that name no grant, by the entry of the grant that they are taken to be of.
CREATE INDEX call_by_entry ON call (entry, started) WHERE entry IS NOT NULL;
