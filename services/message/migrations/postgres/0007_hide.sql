-- The countable messages that the log had when the member hid the room, which is hidden
-- until it has more; -1: not hidden.
ALTER TABLE members ADD COLUMN hidden_ord BIGINT NOT NULL DEFAULT -1;
