-- What was answered to requests that may be repeated. The caller is empty for callers that
-- act for the tenant; their request ids name the backend too. The room is empty where a
-- request is not about the present life of a room.
CREATE TABLE requests (
    tenant_id TEXT COLLATE "C" NOT NULL,
    caller TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL,
    log_id UUID NOT NULL,
    reply BYTEA NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, caller, room_id, request_id)
);

CREATE INDEX requests_log_id ON requests (log_id);
CREATE INDEX requests_create_time ON requests (create_time);
