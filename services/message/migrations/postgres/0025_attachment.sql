-- What users put into a room for its messages to hold. The bytes lie in an object store, in parts
-- of one size.
CREATE TABLE attachments (
    log_id UUID NOT NULL,
    attachment_id UUID NOT NULL,
    -- Who uploads it; empty: the system.
    user_id TEXT COLLATE "C" NOT NULL,
    -- What it was created under, if its creator gave an id.
    request_id TEXT COLLATE "C",
    time BIGINT NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    part_size BIGINT NOT NULL,
    -- What the SHA-256 of the bytes is to be, if the creator said.
    wanted BYTEA,
    -- The latest stream of bytes, and how many there are; they are counted by that stream alone.
    stream BIGINT NOT NULL DEFAULT 0,
    arrived BIGINT NOT NULL DEFAULT 0,
    -- Of the bytes, once all of them are there.
    sha256 BYTEA,
    -- The message that holds it.
    message_seq BIGINT,
    -- Whether it is to be removed: nobody reads, uploads or attaches it.
    ended BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (log_id, attachment_id)
);
CREATE INDEX attachments_message ON attachments (log_id, message_seq)
    WHERE message_seq IS NOT NULL;
CREATE INDEX attachments_waiting ON attachments (log_id, user_id)
    WHERE message_seq IS NULL AND NOT ended;
-- What it has in common with the index before comes late, so that no plan takes one for the other.
CREATE UNIQUE INDEX attachments_request ON attachments (log_id, request_id, user_id);

-- Which stream brought a part: of those that began at it or before, the latest.
CREATE TABLE attachment_spans (
    log_id UUID NOT NULL,
    attachment_id UUID NOT NULL,
    first_part BIGINT NOT NULL,
    stream BIGINT NOT NULL,
    PRIMARY KEY (log_id, attachment_id, first_part)
);

-- When to look whether an attachment is to be removed: those that no message holds have a row,
-- others may.
CREATE TABLE attachment_ends (
    log_id UUID NOT NULL,
    attachment_id UUID NOT NULL,
    due BIGINT NOT NULL,
    PRIMARY KEY (log_id, attachment_id)
);
CREATE INDEX attachment_ends_due ON attachment_ends (due);

-- Logs in which attachments are left of messages before before_seq, which are pruned.
CREATE TABLE attachment_remains (
    log_id UUID PRIMARY KEY,
    before_seq BIGINT NOT NULL
);
