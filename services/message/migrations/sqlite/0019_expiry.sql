-- When a message expires; NULL: never.
ALTER TABLE events ADD COLUMN expire_time INTEGER;
-- Those that are to be deleted for it, of each log.
CREATE INDEX events_expiring ON events (log_id, expire_time, seq)
    WHERE expire_time IS NOT NULL AND deleted_seq IS NULL;

-- Logs in which messages expire, and when to look at them for it. Others have no row here.
CREATE TABLE expiries (
    log_id BLOB PRIMARY KEY,
    due INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX expiries_due ON expiries (due);
