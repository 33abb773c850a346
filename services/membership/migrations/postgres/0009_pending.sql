-- What waits for an answer before a user is a member: kind 1 invitations, which the user answers,
-- 2 requests to join, which the room answers. It is over when the user is a member.
CREATE TABLE pending (
    log_id UUID NOT NULL,
    kind SMALLINT NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    tenant_id TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    -- Who invites; empty: a service or an operator that acted for nobody, or a request.
    actor_id TEXT COLLATE "C" NOT NULL,
    text TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (log_id, kind, user_id)
);

CREATE INDEX pending_of_user ON pending (tenant_id, user_id, kind, room_id);

-- How many of either a room has: where there are none, nothing looks for them.
ALTER TABLE rosters ADD COLUMN invited BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rosters ADD COLUMN asking BIGINT NOT NULL DEFAULT 0;
