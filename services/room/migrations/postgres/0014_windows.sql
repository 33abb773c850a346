-- What binds members who are neither owners nor admins, in seconds; 0: it does not.
ALTER TABLE rooms ADD COLUMN slow_mode BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN edit_window BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN delete_window BIGINT NOT NULL DEFAULT 0;
