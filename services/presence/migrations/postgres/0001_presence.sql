-- When users were last seen, written at most once a minute per user.
CREATE TABLE last_seen (
    tenant_id TEXT COLLATE "C" NOT NULL,
    user_id   TEXT COLLATE "C" NOT NULL,
    -- Microseconds since the Unix epoch.
    seen_at   BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
