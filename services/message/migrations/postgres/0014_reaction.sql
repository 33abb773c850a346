-- How users react to messages, one row for each kind of each user.
CREATE TABLE reactions (
    log_id UUID NOT NULL,
    message_seq BIGINT NOT NULL,
    -- The event that added it, and its time.
    reaction_seq BIGINT NOT NULL,
    time BIGINT NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (log_id, message_seq, reaction_seq)
);
-- What they have in common with the primary key comes late, so that no plan takes one for another.
CREATE INDEX reactions_kind ON reactions (log_id, kind, message_seq, reaction_seq);
CREATE UNIQUE INDEX reactions_own ON reactions (log_id, user_id, message_seq, kind);

-- Reactions that are left over from messages that are gone, those from first_seq to last_seq:
-- nobody is shown them, and they go in chunks.
CREATE TABLE reaction_remains (
    log_id UUID NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    PRIMARY KEY (log_id, first_seq)
);

-- Of a message: how many reactions of each kind it has, encoded as they are on the wire. NULL:
-- none.
ALTER TABLE events ADD COLUMN reaction_counts BYTEA;
