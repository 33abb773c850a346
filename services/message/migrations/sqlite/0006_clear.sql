-- Up to where the member cleared the history for themselves, and the ord of the event
-- there; 0: nowhere.
ALTER TABLE members ADD COLUMN cleared_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN cleared_ord INTEGER NOT NULL DEFAULT 0;
