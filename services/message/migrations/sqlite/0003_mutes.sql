-- Until when a member may not write; 0: they may.
ALTER TABLE members ADD COLUMN muted_until INTEGER NOT NULL DEFAULT 0;
