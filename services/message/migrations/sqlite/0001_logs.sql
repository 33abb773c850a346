-- Stretches of history that were not rewound. The greatest number is the present one.
CREATE TABLE epochs (
    number INTEGER PRIMARY KEY,
    epoch_id TEXT NOT NULL UNIQUE,
    started_at INTEGER NOT NULL,
    reason TEXT NOT NULL
);

-- Unused here: every start begins an epoch. One row, locked by whoever begins one.
CREATE TABLE witness (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seen TEXT NOT NULL,
    beats INTEGER NOT NULL DEFAULT 0
);
INSERT INTO witness (one, seen) VALUES (1, '');

-- The log of a room's latest life.
CREATE TABLE room_logs (
    tenant_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    log_id BLOB NOT NULL,
    PRIMARY KEY (tenant_id, room_id)
) WITHOUT ROWID;

-- Where each log stands.
CREATE TABLE heads (
    log_id BLOB PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    head INTEGER NOT NULL,
    head_time INTEGER NOT NULL,
    -- Countable messages up to the head.
    ord INTEGER NOT NULL,
    -- The first event still stored, and the first countable message.
    first_seq INTEGER NOT NULL,
    first_ord INTEGER NOT NULL,
    -- Countable messages that were deleted.
    deleted INTEGER NOT NULL,
    -- When the latest message was sent, deleted or not; 0 if there is none.
    message_time INTEGER NOT NULL,
    closed_seq INTEGER,
    -- Whether there may be members; FALSE once those of a closed log were let go.
    peopled BOOLEAN NOT NULL DEFAULT TRUE,
    post_rule INTEGER NOT NULL,
    allow_preview BOOLEAN NOT NULL,
    history INTEGER NOT NULL,
    -- The epoch of the latest append.
    epoch INTEGER NOT NULL,
    -- Facts of each source that are in the log.
    applied_membership INTEGER NOT NULL,
    applied_room INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX heads_closed ON heads (log_id) WHERE closed_seq IS NOT NULL AND peopled;

-- The first event that each log got in an epoch.
CREATE TABLE log_epochs (
    log_id BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    PRIMARY KEY (log_id, epoch)
) WITHOUT ROWID;

CREATE TABLE events (
    log_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,
    -- Countable messages up to here, this one included.
    ord INTEGER NOT NULL,
    -- 1 message, 2 edit, 3 deletion, 0 anything else.
    kind INTEGER NOT NULL,
    -- Empty: the system.
    sender_id TEXT NOT NULL DEFAULT '',
    -- An id that the writer made begins with U+0001, which no caller can send.
    request_id TEXT,
    -- What a repeat's payload is compared with.
    digest BLOB,
    counted BOOLEAN NOT NULL,
    -- Of a message: the edit that holds its present content.
    content_seq INTEGER,
    -- Of a message: how often it was edited.
    edits INTEGER NOT NULL DEFAULT 0,
    -- Of a message: its deletion.
    deleted_seq INTEGER,
    -- Of an edit or deletion: the message.
    target_seq INTEGER,
    payload BLOB NOT NULL,
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
    log_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    role INTEGER NOT NULL,
    joined_seq INTEGER NOT NULL,
    joined_time INTEGER NOT NULL,
    read_seq INTEGER NOT NULL,
    -- The ord of the event at read_seq.
    read_ord INTEGER NOT NULL,
    delivered_seq INTEGER NOT NULL,
    marked_unread BOOLEAN NOT NULL,
    PRIMARY KEY (log_id, user_id)
) WITHOUT ROWID;
CREATE INDEX members_user ON members (tenant_id, user_id);

-- How many countable messages were deleted, by their ord: those that share ord >> (5 * level)
-- are one bucket of the level, so that few rows count any number of them. Of ord 1000
-- there are bucket 1000 of level 0, 31 of level 1, and 0 of levels 2 to 4.
CREATE TABLE gone (
    log_id BLOB NOT NULL,
    level INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (log_id, level, bucket)
) WITHOUT ROWID;

-- How often each user's access changed.
CREATE TABLE user_heads (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) WITHOUT ROWID;
