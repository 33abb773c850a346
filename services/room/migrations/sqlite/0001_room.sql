-- Every life of every room, the ended ones too. `due_time` is when the janitor
-- looks at a row; NULL: nothing is left to do.
CREATE TABLE rooms (
    tenant_id TEXT NOT NULL,
    log_id BLOB NOT NULL PRIMARY KEY,
    room_id TEXT NOT NULL,
    unique_id TEXT,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    picture TEXT NOT NULL,
    description TEXT NOT NULL,
    metadata TEXT NOT NULL,
    post_rule INTEGER NOT NULL,
    add_rule INTEGER NOT NULL,
    remove_rule INTEGER NOT NULL,
    join_rule INTEGER NOT NULL,
    allow_preview BOOLEAN NOT NULL,
    history INTEGER NOT NULL,
    capacity INTEGER NOT NULL,
    creator TEXT,
    pair_low TEXT,
    pair_high TEXT,
    founding TEXT NOT NULL,
    state INTEGER NOT NULL,
    version INTEGER NOT NULL,
    rules_version INTEGER NOT NULL,
    pushed_rules_version INTEGER NOT NULL,
    deleter TEXT,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    due_time INTEGER
);

-- The ids of a room are taken while it is being created, is there or is being deleted. They
-- come before the tenant: of several that are asked for Postgres would look through all of it.
CREATE UNIQUE INDEX rooms_room_id ON rooms (room_id, tenant_id) WHERE state IN (1, 2, 3);
CREATE UNIQUE INDEX rooms_unique_id ON rooms (unique_id, tenant_id)
    WHERE state IN (1, 2, 3) AND unique_id IS NOT NULL;
CREATE UNIQUE INDEX rooms_pair ON rooms (tenant_id, pair_low, pair_high)
    WHERE state IN (1, 2, 3) AND pair_low IS NOT NULL;
CREATE INDEX rooms_due ON rooms (due_time) WHERE due_time IS NOT NULL;
