-- The logs this service is a source of. Facts up to `version` were made, those up
-- to `applied` stand in the log.
CREATE TABLE outbox_logs (
    log_id BLOB PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    version INTEGER NOT NULL,
    applied INTEGER NOT NULL
);

CREATE INDEX outbox_logs_pending ON outbox_logs (log_id) WHERE version > applied;

-- Every fact ever made: an encoded parlance.message.v1.Fact.
CREATE TABLE outbox (
    log_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    fact BLOB NOT NULL,
    PRIMARY KEY (log_id, version)
);
