-- The directory: every user of every tenant.
CREATE TABLE users (
    tenant_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    picture TEXT NOT NULL,
    metadata TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

-- One roster per life of a room. The row is the lock of everything about it. Once it is
-- closed its memberships end in steps; then it is not peopled any more.
CREATE TABLE rosters (
    log_id UUID PRIMARY KEY,
    tenant_id TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    kind SMALLINT NOT NULL,
    join_rule SMALLINT NOT NULL,
    add_rule SMALLINT NOT NULL,
    remove_rule SMALLINT NOT NULL,
    capacity INTEGER NOT NULL,
    rules_version BIGINT NOT NULL,
    member_count BIGINT NOT NULL,
    closed BOOLEAN NOT NULL,
    peopled BOOLEAN NOT NULL
) WITH (fillfactor = 50);

CREATE UNIQUE INDEX rosters_open ON rosters (tenant_id, room_id) WHERE NOT closed;
CREATE INDEX rosters_to_empty ON rosters (log_id) WHERE closed AND peopled;

-- Everybody who is or was a member: state 1 present, 2 left, 3 removed,
-- 4 present when the room ended.
CREATE TABLE members (
    log_id UUID NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    tenant_id TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    role SMALLINT NOT NULL,
    state SMALLINT NOT NULL,
    join_time BIGINT NOT NULL,
    PRIMARY KEY (log_id, user_id)
);

CREATE INDEX members_of_user ON members (tenant_id, user_id, room_id) WHERE state = 1;
CREATE INDEX members_by_role ON members (log_id, role, user_id) WHERE state = 1;
