-- The open logs that every user of a tenant is in.
CREATE TABLE broadcasts (
    tenant_id TEXT COLLATE "C" NOT NULL,
    log_id UUID NOT NULL,
    -- When it began, which is when all of them joined.
    begun BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, log_id)
);
