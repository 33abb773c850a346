-- What binds members who are neither owners nor admins, in seconds; 0: it does not.
ALTER TABLE rooms ADD COLUMN slow_mode INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN edit_window INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN delete_window INTEGER NOT NULL DEFAULT 0;
