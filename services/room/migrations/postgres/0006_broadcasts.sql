-- The broadcasts of a tenant, which are counted when one more is made.
CREATE INDEX rooms_broadcasts ON rooms (tenant_id) WHERE kind = 4 AND state IN (1, 2, 3);
