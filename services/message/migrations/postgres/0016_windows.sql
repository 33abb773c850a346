-- What binds members who are neither owners nor admins, in microseconds; 0: it does not. The
-- wait after each message, and how long after it was sent one is edited and deleted.
ALTER TABLE heads ADD COLUMN slow_mode BIGINT NOT NULL DEFAULT 0;
ALTER TABLE heads ADD COLUMN edit_window BIGINT NOT NULL DEFAULT 0;
ALTER TABLE heads ADD COLUMN delete_window BIGINT NOT NULL DEFAULT 0;

-- When the member sent the latest message in slow mode; 0: none.
ALTER TABLE members ADD COLUMN sent_time BIGINT NOT NULL DEFAULT 0;
