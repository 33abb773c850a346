-- The log of a user's own, in which it stands what holds for the user in every room; NULL:
-- nothing was ever said.
ALTER TABLE users ADD COLUMN own_log UUID;
-- Until when the user is kept out of everything, and the greatest number for ever; 0: they are
-- not. Since when, and why.
ALTER TABLE users ADD COLUMN suspended_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN suspended_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN suspended_for TEXT NOT NULL DEFAULT '';
CREATE INDEX users_suspended ON users (tenant_id, user_id) WHERE suspended_until > 0;
