-- Messages that a room holds up, at most 50. Deleting a message unpins it.
CREATE TABLE pins (
    log_id UUID NOT NULL,
    message_seq BIGINT NOT NULL,
    -- The event that pinned it.
    pin_seq BIGINT NOT NULL,
    PRIMARY KEY (log_id, message_seq)
);
