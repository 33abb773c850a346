-- Whether the room service wants to hear when somebody comes or goes, how often somebody did, and
-- up to where it has heard.
ALTER TABLE rosters ADD COLUMN watched BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE rosters ADD COLUMN changes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rosters ADD COLUMN heard BIGINT NOT NULL DEFAULT 0;

CREATE INDEX rosters_changed ON rosters (log_id) WHERE changes > heard AND NOT closed;
