-- What operators decided for a tenant that has to hold here, as of a version of its settings. One
-- without a row has the defaults.
CREATE TABLE tenants (
    tenant_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    -- NULL: as many as come.
    max_users BIGINT,
    -- How many there are, while their number is limited.
    users BIGINT,
    -- When they are counted once more: whoever was making one when the limit was set did not
    -- count it.
    recount_time BIGINT
);
CREATE INDEX tenants_recount ON tenants (recount_time) WHERE recount_time IS NOT NULL;

-- Set by what makes a user unless there is one, where there was one: what it returns says
-- whether the user is new.
ALTER TABLE users ADD COLUMN existed BOOLEAN NOT NULL DEFAULT FALSE;
