-- When each fact was made, in milliseconds since 1970 by the clock of this database. Facts of
-- before count from now, as far as they wait.
ALTER TABLE outbox ADD COLUMN made INTEGER NOT NULL DEFAULT 0;

UPDATE outbox SET made = CAST(unixepoch('subsec') * 1000 AS INTEGER)
WHERE version > (SELECT applied FROM outbox_logs l WHERE l.log_id = outbox.log_id);

-- A default that is added later cannot be a time.
CREATE TRIGGER outbox_made AFTER INSERT ON outbox BEGIN
    UPDATE outbox SET made = CAST(unixepoch('subsec') * 1000 AS INTEGER)
    WHERE log_id = NEW.log_id AND version = NEW.version;
END;

-- How old the oldest fact is that waits for each log, in milliseconds.
CREATE VIEW outbox_age AS
    SELECT l.log_id, CAST(unixepoch('subsec') * 1000 AS INTEGER) - o.made AS age
    FROM outbox_logs l JOIN outbox o ON o.log_id = l.log_id AND o.version = l.applied + 1
    WHERE l.version > l.applied;
