-- What a member's metadata says while they are in, as JSON.
ALTER TABLE members ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
