-- Whether users who are blocked from now on are told nothing of it.
ALTER TABLE tenants ADD COLUMN silent_blocks BOOLEAN NOT NULL DEFAULT FALSE;
-- What the tenant had when they were blocked.
ALTER TABLE blocks ADD COLUMN silent BOOLEAN NOT NULL DEFAULT FALSE;
