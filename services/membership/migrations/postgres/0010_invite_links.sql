-- Links by which users come in. What names a link is the hash of its token: who reads this table
-- cannot use it.
CREATE TABLE invite_links (
    log_id UUID NOT NULL,
    link_id TEXT COLLATE "C" NOT NULL,
    -- Empty: a service or an operator that acted for nobody.
    creator_id TEXT COLLATE "C" NOT NULL,
    create_time BIGINT NOT NULL,
    -- The greatest number: it ends with the room.
    expire_time BIGINT NOT NULL,
    -- 0: without a limit.
    max_uses INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    PRIMARY KEY (log_id, link_id)
);
