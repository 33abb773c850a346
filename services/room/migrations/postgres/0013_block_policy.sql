-- What becomes of what blocked users write in direct rooms: 1 refused, 2 accepted and shown to
-- nobody else. Membership is told with each version.
ALTER TABLE tenant_settings ADD COLUMN block_policy SMALLINT NOT NULL DEFAULT 1;
