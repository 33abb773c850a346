-- Logs in which there is, or will be, something to let go of: those that keep events for a
-- time, were cleared for all, or were closed. Others have no row here.
CREATE TABLE prunings (
    log_id BLOB PRIMARY KEY,
    -- When to look at the log.
    due INTEGER NOT NULL,
    -- How long it keeps events, in microseconds; 0: for ever.
    retention INTEGER NOT NULL,
    -- Of the events up to here there are only rows that repeats of requests find ...
    pruned_seq INTEGER NOT NULL,
    -- ... and up to here none at all.
    gone_seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX prunings_due ON prunings (due);

-- Logs that are gone: the facts of each source that they had, so that nobody makes them again.
CREATE TABLE purged (
    log_id BLOB PRIMARY KEY,
    applied_membership INTEGER NOT NULL,
    applied_room INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO prunings (log_id, due, retention, pruned_seq, gone_seq)
SELECT log_id, 0, 0, first_seq - 1, first_seq - 1 FROM heads WHERE closed_seq IS NOT NULL;
