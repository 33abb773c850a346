-- In how many live rooms a user of the tenant may be; NULL: in as many as by default.
ALTER TABLE tenant_settings ADD COLUMN max_live_rooms_per_user INTEGER;
-- How long rooms that do not say it themselves keep events, in seconds; 0: for ever.
ALTER TABLE tenant_settings ADD COLUMN retention BIGINT NOT NULL DEFAULT 0;
-- When rooms that are there begin to follow that; NULL: they all do.
ALTER TABLE tenant_settings ADD COLUMN retention_time BIGINT;
CREATE INDEX tenant_settings_retention ON tenant_settings (retention_time)
    WHERE retention_time IS NOT NULL;

-- How long the log was last told to keep events, in seconds; 0: for ever.
ALTER TABLE rooms ADD COLUMN kept BIGINT NOT NULL DEFAULT 0;
UPDATE rooms SET kept = retention WHERE retention <> 0;
-- The rooms that follow their tenant.
CREATE INDEX rooms_kept ON rooms (tenant_id, kept) WHERE retention = 0 AND state = 2;
