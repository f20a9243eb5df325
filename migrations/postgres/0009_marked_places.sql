-- The broker's own mark on how far a forwarding or a sink has come. Nothing for what came that far before there were marks.
ALTER TABLE forward ADD COLUMN tag bytea;
