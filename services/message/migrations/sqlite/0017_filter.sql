-- Words that users of a tenant may not write, a line each, and what becomes of messages with
-- them. A list that is put gets an id of its own, by which nodes know what they have made ready
-- of it, also where the table is put back to an older copy.
CREATE TABLE content_filters (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    list_id BLOB NOT NULL,
    action INTEGER NOT NULL,
    words TEXT NOT NULL
);
