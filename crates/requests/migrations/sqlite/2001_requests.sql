-- What was answered to requests that may be repeated. The caller is empty for callers that
-- act for the tenant; their request ids name the backend too. The room is empty where a
-- request is not about the present life of a room.
CREATE TABLE requests (
    tenant_id TEXT NOT NULL,
    caller TEXT NOT NULL,
    room_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    log_id BLOB NOT NULL,
    reply BLOB NOT NULL,
    create_time INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, caller, room_id, request_id)
);

CREATE INDEX requests_log_id ON requests (log_id);
CREATE INDEX requests_create_time ON requests (create_time);
