-- Messages that a room holds up, at most 50. Deleting a message unpins it.
CREATE TABLE pins (
    log_id BLOB NOT NULL,
    message_seq INTEGER NOT NULL,
    -- The event that pinned it.
    pin_seq INTEGER NOT NULL,
    PRIMARY KEY (log_id, message_seq)
) WITHOUT ROWID;
