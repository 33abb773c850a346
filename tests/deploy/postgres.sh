#!/usr/bin/env bash
# Does for Debian's Postgres what the entry point of the image `postgres` does: postgres.sh OPTION...
set -euo pipefail
bin=$(dirname "$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1)")
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  "$bin/initdb" -D "$PGDATA" -U "$POSTGRES_USER" --pwfile "$POSTGRES_PASSWORD_FILE" -E UTF8 --locale=C -A scram-sha-256
  printf 'local all all trust\nhost all all all scram-sha-256\n' >"$PGDATA/pg_hba.conf"
  "$bin/pg_ctl" start -D "$PGDATA" -s -w -o '-c listen_addresses='
  psql() { "$bin/psql" -q -v ON_ERROR_STOP=1 -h /var/run/postgresql -U "$POSTGRES_USER" "$@"; }
  psql -d postgres -c "CREATE DATABASE \"$POSTGRES_USER\""
  for script in /docker-entrypoint-initdb.d/*.sql; do psql -d "$POSTGRES_USER" -f "$script"; done
  "$bin/pg_ctl" stop -D "$PGDATA" -s -m fast
fi
exec "$bin/postgres" -D "$PGDATA" -c 'listen_addresses=*' -c fsync=off "$@"
