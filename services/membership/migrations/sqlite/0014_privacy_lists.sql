-- Lists of users whom their owner denies or allows, by name; of a user's at most one is the default.
-- `items`: the users, what is said of each, in order, as JSON.
CREATE TABLE privacy_lists (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    is_default BOOLEAN NOT NULL,
    items TEXT NOT NULL,
    PRIMARY KEY (tenant_id, user_id, name)
);

-- A user is blocked by a call, by the default list, or by both: a row holds for as long as one of
-- them does.
ALTER TABLE blocks ADD COLUMN called BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE blocks ADD COLUMN listed BOOLEAN NOT NULL DEFAULT FALSE;
-- Whether the one who blocks writes no more in the direct room of the two either.
ALTER TABLE blocks ADD COLUMN mutual BOOLEAN NOT NULL DEFAULT FALSE;
