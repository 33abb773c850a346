-- How much a tenant may have; NULL: as much as it likes.
ALTER TABLE tenant_settings ADD COLUMN max_rooms BIGINT;
ALTER TABLE tenant_settings ADD COLUMN max_live_rooms BIGINT;
ALTER TABLE tenant_settings ADD COLUMN max_members INTEGER;
-- The rooms that hold their ids, and the live ones among them, while their number is limited.
ALTER TABLE tenant_settings ADD COLUMN rooms BIGINT;
ALTER TABLE tenant_settings ADD COLUMN live_rooms BIGINT;
-- When they are counted once more: whoever was making or deleting a room when the limit was set
-- did not count it.
ALTER TABLE tenant_settings ADD COLUMN recount_time BIGINT;
CREATE INDEX tenant_settings_recount ON tenant_settings (recount_time)
    WHERE recount_time IS NOT NULL;
