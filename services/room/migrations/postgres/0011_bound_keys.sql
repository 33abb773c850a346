-- The keys of the metadata that go when their owner's membership ends, as JSON: whose each is, and since
-- when they were a member when they set it.
ALTER TABLE rooms ADD COLUMN bound_keys TEXT NOT NULL DEFAULT '{}';
