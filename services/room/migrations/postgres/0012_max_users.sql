-- How many users the tenant may have; NULL: as many as come. Membership, which has them, is told
-- with each version.
ALTER TABLE tenant_settings ADD COLUMN max_users BIGINT;
