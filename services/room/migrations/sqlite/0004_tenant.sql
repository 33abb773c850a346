-- What operators decided for a tenant. One without a row has the defaults. `allowed_fields`:
-- the names of the fields that rooms may have, each with the version from which on, as JSON.
CREATE TABLE tenant_settings (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    allowed_fields TEXT NOT NULL,
    version INTEGER NOT NULL
);

-- The values of fields, each with the version from which on its name was allowed, as JSON.
ALTER TABLE rooms ADD COLUMN fields TEXT NOT NULL DEFAULT '{}';
