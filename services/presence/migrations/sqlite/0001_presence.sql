-- When users were last seen, written at most once a minute per user.
CREATE TABLE last_seen (
    tenant_id TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    -- Microseconds since the Unix epoch.
    seen_at   BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) WITHOUT ROWID;
