-- What was laid on users in a room: kind 1 bans, 2 mutes. What has ended stays until
-- it is laid on or lifted again, and counts for nothing.
CREATE TABLE sanctions (
    log_id UUID NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    kind SMALLINT NOT NULL,
    -- The greatest number: for ever.
    until BIGINT NOT NULL,
    reason TEXT NOT NULL,
    -- Empty: a service or an operator that acted for nobody.
    actor_id TEXT COLLATE "C" NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (log_id, user_id, kind)
);

CREATE INDEX sanctions_of_kind ON sanctions (log_id, kind, user_id);
