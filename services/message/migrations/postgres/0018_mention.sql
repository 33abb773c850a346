-- The latest message that mentioned anybody; 0: none did.
ALTER TABLE heads ADD COLUMN mention_seq BIGINT NOT NULL DEFAULT 0;

-- Members whom messages mention that are not deleted; an empty id is everybody.
CREATE TABLE mentions (
    log_id UUID NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    sender_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (log_id, user_id, seq)
);
CREATE INDEX mentions_message ON mentions (log_id, seq);
