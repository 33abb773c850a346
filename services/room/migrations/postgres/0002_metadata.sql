-- Who set each key of the metadata last, as JSON: a key that nobody owns is left out.
ALTER TABLE rooms ADD COLUMN key_owners TEXT NOT NULL DEFAULT '{}';
-- Who may patch the metadata; 2: owners and admins.
ALTER TABLE rooms ADD COLUMN metadata_rule SMALLINT NOT NULL DEFAULT 2;
