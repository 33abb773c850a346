-- What holds for a user in every room, and how often that was said. It stands on each of
-- their member rows, too, so that nothing else is read for it: where `spread` is behind
-- `said`, some of these rows are to be written still.
ALTER TABLE user_heads ADD COLUMN suspended_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE user_heads ADD COLUMN has_blocks BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE user_heads ADD COLUMN said INTEGER NOT NULL DEFAULT 0;
ALTER TABLE user_heads ADD COLUMN spread INTEGER NOT NULL DEFAULT 0;
CREATE INDEX user_heads_unspread ON user_heads (tenant_id, user_id) WHERE spread < said;

-- Until when a member is suspended; 0: they are not.
ALTER TABLE members ADD COLUMN suspended_until INTEGER NOT NULL DEFAULT 0;
-- Whether messages of users whom the member has blocked are kept from them here: never in a
-- direct room.
ALTER TABLE members ADD COLUMN has_blocks BOOLEAN NOT NULL DEFAULT FALSE;
-- What the two before stand for, of what was said of the user.
ALTER TABLE members ADD COLUMN said INTEGER NOT NULL DEFAULT 0;
-- Of a direct room: whether the other member has blocked this one.
ALTER TABLE members ADD COLUMN peer_blocked BOOLEAN NOT NULL DEFAULT FALSE;

-- Whom each user has blocked.
CREATE TABLE blocks (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    blocked_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, user_id, blocked_id)
) WITHOUT ROWID;
