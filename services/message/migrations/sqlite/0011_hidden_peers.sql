-- Whether who is blocked is told nothing of it, not even in the direct room of the two: there it
-- is then `members.has_blocks` of the one who blocked them that keeps their messages from that one.
ALTER TABLE blocks ADD COLUMN hidden BOOLEAN NOT NULL DEFAULT FALSE;
