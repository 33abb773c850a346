-- The role that serves owns nothing: it may use what `parlance migrate`, as parlance, makes.
CREATE ROLE parlance_serve LOGIN PASSWORD 'dev-only';
ALTER DEFAULT PRIVILEGES FOR ROLE parlance GRANT USAGE ON SCHEMAS TO parlance_serve;
ALTER DEFAULT PRIVILEGES FOR ROLE parlance GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO parlance_serve;
ALTER DEFAULT PRIVILEGES FOR ROLE parlance GRANT USAGE, SELECT ON SEQUENCES TO parlance_serve;
