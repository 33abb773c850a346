-- When each fact was made, in milliseconds since 1970 by the clock of this database: whoever
-- writes it, a program of before too. Facts of before count from now.
ALTER TABLE outbox ADD COLUMN made BIGINT NOT NULL
    DEFAULT CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT);

-- How old the oldest fact is that waits for each log, in milliseconds.
CREATE VIEW outbox_age AS
    SELECT l.log_id, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - o.made AS age
    FROM outbox_logs l JOIN outbox o ON o.log_id = l.log_id AND o.version = l.applied + 1
    WHERE l.version > l.applied;
