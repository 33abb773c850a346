-- Every life of every room, the ended ones too. `due_time` is when the janitor
-- looks at a row; NULL: nothing is left to do.
CREATE TABLE rooms (
    tenant_id TEXT COLLATE "C" NOT NULL,
    log_id UUID NOT NULL PRIMARY KEY,
    room_id TEXT COLLATE "C" NOT NULL,
    unique_id TEXT COLLATE "C",
    kind SMALLINT NOT NULL,
    name TEXT NOT NULL,
    picture TEXT NOT NULL,
    description TEXT NOT NULL,
    metadata TEXT NOT NULL,
    post_rule SMALLINT NOT NULL,
    add_rule SMALLINT NOT NULL,
    remove_rule SMALLINT NOT NULL,
    join_rule SMALLINT NOT NULL,
    allow_preview BOOLEAN NOT NULL,
    history SMALLINT NOT NULL,
    capacity INTEGER NOT NULL,
    creator TEXT COLLATE "C",
    pair_low TEXT COLLATE "C",
    pair_high TEXT COLLATE "C",
    founding TEXT NOT NULL,
    state SMALLINT NOT NULL,
    version BIGINT NOT NULL,
    rules_version BIGINT NOT NULL,
    pushed_rules_version BIGINT NOT NULL,
    deleter TEXT COLLATE "C",
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    due_time BIGINT
);

-- The ids of a room are taken while it is being created, is there or is being deleted. They
-- come before the tenant: of several that are asked for Postgres would look through all of it.
CREATE UNIQUE INDEX rooms_room_id ON rooms (room_id, tenant_id) WHERE state IN (1, 2, 3);
CREATE UNIQUE INDEX rooms_unique_id ON rooms (unique_id, tenant_id)
    WHERE state IN (1, 2, 3) AND unique_id IS NOT NULL;
CREATE UNIQUE INDEX rooms_pair ON rooms (tenant_id, pair_low, pair_high)
    WHERE state IN (1, 2, 3) AND pair_low IS NOT NULL;
CREATE INDEX rooms_due ON rooms (due_time) WHERE due_time IS NOT NULL;
