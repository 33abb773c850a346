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

-- One roster per life of a room. The row is the lock of everything about it.
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
    closed BOOLEAN NOT NULL
);

CREATE UNIQUE INDEX rosters_open ON rosters (tenant_id, room_id) WHERE NOT closed;

-- Everybody who is or was a member: state 1 present, 2 left, 3 removed.
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
CREATE INDEX members_owners ON members (log_id) WHERE state = 1 AND role = 3;

-- What was answered to requests with an id, so that a repeat gets it again.
-- The caller is empty for services that act for nobody.
CREATE TABLE requests (
    tenant_id TEXT NOT NULL,
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    log_id BLOB NOT NULL,
    reply BLOB NOT NULL,
    create_time INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, caller, request_id)
);

-- The logs this service is a source of. Facts up to `version` were made, those up
-- to `applied` stand in the log.
CREATE TABLE outbox_logs (
    log_id BLOB PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    version INTEGER NOT NULL,
    applied INTEGER NOT NULL
);

CREATE INDEX outbox_logs_pending ON outbox_logs (log_id) WHERE version > applied;

-- Every fact ever made: an encoded parlance.message.v1.Fact.
CREATE TABLE outbox (
    log_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    fact BLOB NOT NULL,
    PRIMARY KEY (log_id, version)
);
