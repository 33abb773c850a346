-- What users put into a room for its messages to hold. The bytes lie in an object store, in parts
-- of one size.
CREATE TABLE attachments (
    log_id BLOB NOT NULL,
    attachment_id BLOB NOT NULL,
    -- Who uploads it; empty: the system.
    user_id TEXT NOT NULL,
    -- What it was created under, if its creator gave an id.
    request_id TEXT,
    time INTEGER NOT NULL,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    part_size INTEGER NOT NULL,
    -- What the SHA-256 of the bytes is to be, if the creator said.
    wanted BLOB,
    -- The latest stream of bytes, and how many there are; they are counted by that stream alone.
    stream INTEGER NOT NULL DEFAULT 0,
    arrived INTEGER NOT NULL DEFAULT 0,
    -- Of the bytes, once all of them are there.
    sha256 BLOB,
    -- The message that holds it.
    message_seq INTEGER,
    -- Whether it is to be removed: nobody reads, uploads or attaches it.
    ended BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (log_id, attachment_id)
) WITHOUT ROWID;
CREATE INDEX attachments_message ON attachments (log_id, message_seq)
    WHERE message_seq IS NOT NULL;
CREATE INDEX attachments_waiting ON attachments (log_id, user_id, message_seq, ended);
-- What it has in common with the index before comes late, so that no plan takes one for the other.
CREATE UNIQUE INDEX attachments_request ON attachments (log_id, request_id, user_id);

-- Which stream brought a part: of those that began at it or before, the latest.
CREATE TABLE attachment_spans (
    log_id BLOB NOT NULL,
    attachment_id BLOB NOT NULL,
    first_part INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    PRIMARY KEY (log_id, attachment_id, first_part)
) WITHOUT ROWID;

-- When to look whether an attachment is to be removed: those that no message holds have a row,
-- others may.
CREATE TABLE attachment_ends (
    log_id BLOB NOT NULL,
    attachment_id BLOB NOT NULL,
    due INTEGER NOT NULL,
    PRIMARY KEY (log_id, attachment_id)
) WITHOUT ROWID;
CREATE INDEX attachment_ends_due ON attachment_ends (due);

-- Logs in which attachments are left of messages before before_seq, which are pruned.
CREATE TABLE attachment_remains (
    log_id BLOB NOT NULL PRIMARY KEY,
    before_seq INTEGER NOT NULL
) WITHOUT ROWID;
