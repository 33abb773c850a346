-- How long the room's log keeps events, in seconds; 0: for ever.
ALTER TABLE rooms ADD COLUMN retention INTEGER NOT NULL DEFAULT 0;
