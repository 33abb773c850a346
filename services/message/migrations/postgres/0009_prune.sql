-- Logs in which there is, or will be, something to let go of: those that keep events for a
-- time, were cleared for all, or were closed. Others have no row here.
CREATE TABLE prunings (
    log_id UUID PRIMARY KEY,
    -- When to look at the log.
    due BIGINT NOT NULL,
    -- How long it keeps events, in microseconds; 0: for ever.
    retention BIGINT NOT NULL,
    -- Of the events up to here there are only rows that repeats of requests find ...
    pruned_seq BIGINT NOT NULL,
    -- ... and up to here none at all.
    gone_seq BIGINT NOT NULL
);
CREATE INDEX prunings_due ON prunings (due);

-- Logs that are gone: the facts of each source that they had, so that nobody makes them again.
CREATE TABLE purged (
    log_id UUID PRIMARY KEY,
    applied_membership BIGINT NOT NULL,
    applied_room BIGINT NOT NULL
);

INSERT INTO prunings (log_id, due, retention, pruned_seq, gone_seq)
SELECT log_id, 0, 0, first_seq - 1, first_seq - 1 FROM heads WHERE closed_seq IS NOT NULL;
