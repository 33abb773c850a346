-- Of a reply: the message that its thread began with.
ALTER TABLE events ADD COLUMN root_seq BIGINT;
-- Of a message that a thread began with: how many replies there are, but for deleted ones, and
-- when the latest of these was sent.
ALTER TABLE events ADD COLUMN replies BIGINT NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN reply_time BIGINT;
CREATE INDEX events_thread ON events (log_id, root_seq, seq)
    WHERE root_seq IS NOT NULL AND deleted_seq IS NULL;
