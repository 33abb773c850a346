-- The logs this service is a source of. Facts up to `version` were made, those up
-- to `applied` stand in the log.
CREATE TABLE outbox_logs (
    log_id UUID PRIMARY KEY,
    tenant_id TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    kind INTEGER NOT NULL,
    version BIGINT NOT NULL,
    applied BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX outbox_logs_pending ON outbox_logs (log_id) WHERE version > applied;

-- Every fact ever made: an encoded parlance.message.v1.Fact.
CREATE TABLE outbox (
    log_id UUID NOT NULL,
    version BIGINT NOT NULL,
    fact BYTEA NOT NULL,
    PRIMARY KEY (log_id, version)
);
