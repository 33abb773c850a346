-- Whom each user has blocked.
CREATE TABLE blocks (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    blocked_id TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id, blocked_id)
) WITHOUT ROWID;
-- How many that are.
ALTER TABLE users ADD COLUMN blocks INTEGER NOT NULL DEFAULT 0;

-- Of a member of a direct room: the other one.
ALTER TABLE members ADD COLUMN peer_id TEXT;
UPDATE members SET peer_id = (SELECT p.user_id FROM members p
                               WHERE p.log_id = members.log_id AND p.user_id <> members.user_id)
 WHERE EXISTS (SELECT 1 FROM rosters r WHERE r.log_id = members.log_id AND r.kind = 1);
CREATE INDEX members_peer ON members (tenant_id, user_id, peer_id) WHERE peer_id IS NOT NULL;
