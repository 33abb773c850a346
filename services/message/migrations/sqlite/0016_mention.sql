-- The latest message that mentioned anybody; 0: none did.
ALTER TABLE heads ADD COLUMN mention_seq INTEGER NOT NULL DEFAULT 0;

-- Members whom messages mention that are not deleted; an empty id is everybody.
CREATE TABLE mentions (
    log_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    sender_id TEXT NOT NULL,
    PRIMARY KEY (log_id, user_id, seq)
) WITHOUT ROWID;
CREATE INDEX mentions_message ON mentions (log_id, seq);
