-- The open logs that every user of a tenant is in.
CREATE TABLE broadcasts (
    tenant_id TEXT NOT NULL,
    log_id BLOB NOT NULL,
    -- When it began, which is when all of them joined.
    begun INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, log_id)
) WITHOUT ROWID;
