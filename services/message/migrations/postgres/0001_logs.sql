-- Stretches of history that were not rewound. The greatest number is the present one.
CREATE TABLE epochs (
    number BIGINT PRIMARY KEY,
    epoch_id TEXT COLLATE "C" NOT NULL UNIQUE,
    started_at BIGINT NOT NULL,
    reason TEXT NOT NULL
);

-- The server that was written last: its system identifier and timeline. One row,
-- locked by whoever begins an epoch.
CREATE TABLE witness (
    one SMALLINT PRIMARY KEY CHECK (one = 1),
    seen TEXT NOT NULL,
    -- Counts on all the time. Redis remembers how far: a copy that is put back is behind.
    beats BIGINT NOT NULL DEFAULT 0
);
INSERT INTO witness (one, seen) VALUES (1, '');

-- The log of a room's latest life.
CREATE TABLE room_logs (
    tenant_id TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    log_id UUID NOT NULL,
    PRIMARY KEY (tenant_id, room_id)
);

-- Where each log stands. Its row is the lock that gives out numbers. Rows change
-- with every append: free space in the page and no index on what changes keep
-- these updates in place.
CREATE TABLE heads (
    log_id UUID PRIMARY KEY,
    tenant_id TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    kind SMALLINT NOT NULL,
    head BIGINT NOT NULL,
    head_time BIGINT NOT NULL,
    -- Countable messages up to the head.
    ord BIGINT NOT NULL,
    -- The first event still stored, and the first countable message.
    first_seq BIGINT NOT NULL,
    first_ord BIGINT NOT NULL,
    -- Countable messages that were deleted.
    deleted BIGINT NOT NULL,
    -- When the latest message was sent, deleted or not; 0 if there is none.
    message_time BIGINT NOT NULL,
    closed_seq BIGINT,
    -- Whether there may be members; FALSE once those of a closed log were let go.
    peopled BOOLEAN NOT NULL DEFAULT TRUE,
    post_rule SMALLINT NOT NULL,
    allow_preview BOOLEAN NOT NULL,
    history SMALLINT NOT NULL,
    -- The epoch of the latest append.
    epoch BIGINT NOT NULL,
    -- Facts of each source that are in the log.
    applied_membership BIGINT NOT NULL,
    applied_room BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX heads_closed ON heads (log_id) WHERE closed_seq IS NOT NULL AND peopled;

-- The first event that each log got in an epoch.
CREATE TABLE log_epochs (
    log_id UUID NOT NULL,
    epoch BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    PRIMARY KEY (log_id, epoch)
);

CREATE TABLE events (
    log_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    time BIGINT NOT NULL,
    -- Countable messages up to here, this one included.
    ord BIGINT NOT NULL,
    -- 1 message, 2 edit, 3 deletion, 0 anything else.
    kind SMALLINT NOT NULL,
    -- Empty: the system.
    sender_id TEXT COLLATE "C" NOT NULL DEFAULT '',
    -- An id that the writer made begins with U+0001, which no caller can send.
    request_id TEXT COLLATE "C",
    -- What a repeat's payload is compared with.
    digest BYTEA,
    counted BOOLEAN NOT NULL,
    -- Of a message: the edit that holds its present content.
    content_seq BIGINT,
    -- Of a message: how often it was edited.
    edits SMALLINT NOT NULL DEFAULT 0,
    -- Of a message: its deletion.
    deleted_seq BIGINT,
    -- Of an edit or deletion: the message.
    target_seq BIGINT,
    payload BYTEA NOT NULL,
    PRIMARY KEY (log_id, seq)
);
CREATE UNIQUE INDEX events_request ON events (log_id, sender_id, request_id)
    WHERE request_id IS NOT NULL;
CREATE INDEX events_target ON events (log_id, target_seq, kind, seq)
    WHERE target_seq IS NOT NULL;
-- Messages without what lies between them; the deleted ones apart, since the latest that
-- is not deleted is asked for, too.
CREATE INDEX events_kept ON events (log_id, kind, seq) WHERE deleted_seq IS NULL;
CREATE INDEX events_deleted ON events (log_id, kind, seq) WHERE deleted_seq IS NOT NULL;

CREATE TABLE members (
    log_id UUID NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    tenant_id TEXT COLLATE "C" NOT NULL,
    role SMALLINT NOT NULL,
    joined_seq BIGINT NOT NULL,
    joined_time BIGINT NOT NULL,
    read_seq BIGINT NOT NULL,
    -- The ord of the event at read_seq.
    read_ord BIGINT NOT NULL,
    delivered_seq BIGINT NOT NULL,
    marked_unread BOOLEAN NOT NULL,
    PRIMARY KEY (log_id, user_id)
) WITH (fillfactor = 70);
CREATE INDEX members_user ON members (tenant_id, user_id);

-- How many countable messages were deleted, by their ord: those that share ord >> (5 * level)
-- are one bucket of the level, so that few rows count any number of them. Of ord 1000
-- there are bucket 1000 of level 0, 31 of level 1, and 0 of levels 2 to 4.
CREATE TABLE gone (
    log_id UUID NOT NULL,
    level SMALLINT NOT NULL,
    bucket BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (log_id, level, bucket)
);

-- How often each user's access changed.
CREATE TABLE user_heads (
    tenant_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) WITH (fillfactor = 70);
