-- When somebody left a room that is still there, or was removed; NULL: they are in, or the room has
-- ended. Of live rooms it is not kept.
ALTER TABLE members ADD COLUMN leave_time BIGINT;

CREATE INDEX members_left_by ON members (tenant_id, user_id, leave_time)
    WHERE leave_time IS NOT NULL;
CREATE INDEX members_left_of ON members (log_id, user_id) WHERE leave_time IS NOT NULL;
