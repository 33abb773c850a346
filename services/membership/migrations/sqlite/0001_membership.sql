-- The directory: every user of every tenant.
CREATE TABLE users (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    picture TEXT NOT NULL,
    metadata TEXT NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

-- One roster per life of a room. The row is the lock of everything about it. Once it is
-- closed its memberships end in steps; then it is not peopled any more.
CREATE TABLE rosters (
    log_id BLOB PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    join_rule INTEGER NOT NULL,
    add_rule INTEGER NOT NULL,
    remove_rule INTEGER NOT NULL,
    capacity INTEGER NOT NULL,
    rules_version INTEGER NOT NULL,
    member_count INTEGER NOT NULL,
    closed BOOLEAN NOT NULL,
    peopled BOOLEAN NOT NULL
);

CREATE UNIQUE INDEX rosters_open ON rosters (tenant_id, room_id) WHERE NOT closed;
CREATE INDEX rosters_to_empty ON rosters (log_id) WHERE closed AND peopled;

-- Everybody who is or was a member: state 1 present, 2 left, 3 removed,
-- 4 present when the room ended.
CREATE TABLE members (
    log_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    role INTEGER NOT NULL,
    state INTEGER NOT NULL,
    join_time INTEGER NOT NULL,
    PRIMARY KEY (log_id, user_id)
);

CREATE INDEX members_of_user ON members (tenant_id, user_id, room_id) WHERE state = 1;
CREATE INDEX members_by_role ON members (log_id, role, user_id) WHERE state = 1;
