-- Whose lock it is, by issuer and subject: nothing at the broker's own host, and for what was set before this was kept. And the
-- sessions in which someone asked for a lock of everything to be lifted, or for bodies to be dropped.
ALTER TABLE lock ADD COLUMN set_issuer text;
ALTER TABLE lock ADD COLUMN set_subject text;
ALTER TABLE lock ADD COLUMN asked_session bytea;
ALTER TABLE drop_request ADD COLUMN session bytea;
