-- Whom each user has blocked.
CREATE TABLE blocks (
    tenant_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    blocked_id TEXT COLLATE "C" NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id, blocked_id)
);
-- How many that are.
ALTER TABLE users ADD COLUMN blocks BIGINT NOT NULL DEFAULT 0;

-- Of a member of a direct room: the other one.
ALTER TABLE members ADD COLUMN peer_id TEXT COLLATE "C";
UPDATE members SET peer_id = (SELECT p.user_id FROM members p
                               WHERE p.log_id = members.log_id AND p.user_id <> members.user_id)
 WHERE EXISTS (SELECT 1 FROM rosters r WHERE r.log_id = members.log_id AND r.kind = 1);
CREATE INDEX members_peer ON members (tenant_id, user_id, peer_id) WHERE peer_id IS NOT NULL;
