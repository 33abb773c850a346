-- Users by name: it in lower case, as the service writes it.
ALTER TABLE users ADD COLUMN folded TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE users SET folded = lower(name);
CREATE INDEX users_by_name ON users (tenant_id, folded, user_id);
