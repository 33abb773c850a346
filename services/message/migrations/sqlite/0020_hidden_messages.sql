-- Whether a member hid messages of the log from themselves.
ALTER TABLE members ADD COLUMN has_hidden BOOLEAN NOT NULL DEFAULT FALSE;

-- Messages that members hid from themselves: of a membership, by the event that it began with.
CREATE TABLE hidden_messages (
    log_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    joined_seq INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (log_id, user_id, joined_seq, seq)
) WITHOUT ROWID;
CREATE INDEX hidden_messages_seq ON hidden_messages (log_id, seq, user_id);

-- Memberships that ended, the last of each user, of which rows of hidden messages may be left.
CREATE TABLE hidden_remains (
    log_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    joined_seq INTEGER NOT NULL,
    PRIMARY KEY (log_id, user_id)
) WITHOUT ROWID;
