-- The devices that are in live rooms, each with the session that holds its place. A user is a
-- member as long as one of theirs is in.
CREATE TABLE seats (
    log_id UUID NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    tenant_id TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    enter_time BIGINT NOT NULL,
    PRIMARY KEY (log_id, user_id, resource)
);

CREATE INDEX seats_of_user ON seats (tenant_id, user_id, resource);

-- How long a live room waits after the last one left, in microseconds; NULL: it is not live.
ALTER TABLE rosters ADD COLUMN destroy_delay BIGINT;
ALTER TABLE rosters ADD COLUMN single_device BOOLEAN NOT NULL DEFAULT FALSE;
-- When a live room in which nobody is ends; NULL: somebody is.
ALTER TABLE rosters ADD COLUMN destroy_time BIGINT;
-- Whether it ended by itself, and the room service does not know yet.
ALTER TABLE rosters ADD COLUMN untold BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX rosters_due ON rosters (destroy_time) WHERE destroy_time IS NOT NULL;
CREATE INDEX rosters_untold ON rosters (log_id) WHERE untold;
