-- Whether everybody finds a channel in a list: 1 no, 2 yes.
ALTER TABLE rooms ADD COLUMN visibility SMALLINT NOT NULL DEFAULT 1;
-- By what a listed one is ordered: its name in lower case, and how many members it had when
-- membership last told of it, with the number of that telling.
ALTER TABLE rooms ADD COLUMN sort_name TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE rooms ADD COLUMN members BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN members_change BIGINT NOT NULL DEFAULT 0;

CREATE INDEX rooms_listed_by_name ON rooms (tenant_id, sort_name, log_id)
    WHERE visibility = 2 AND state = 2;
CREATE INDEX rooms_listed_by_size ON rooms (tenant_id, members, log_id)
    WHERE visibility = 2 AND state = 2;
