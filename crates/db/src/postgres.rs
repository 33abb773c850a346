//! A schema of a Postgres database.

use std::io::ErrorKind;
use std::str::FromStr;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable as _};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Postgres, SqlSafeStr};
use tokio::time::timeout;

use crate::conn::{Conn, Driver as _};
use crate::error::{Trouble, trouble};
use crate::pool::{Condition, Pool};
use crate::query::{On, Query};
use crate::schema::{APPLIED, Schema};
use crate::{OpenError, STATEMENT_TIMEOUT, StoreError, is_unique_violation};

/// How long an answer of Postgres may take: it ends a statement itself, while it can be heard.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(3500);

/// How long Postgres keeps the locks of a transaction whose process stands still: those who
/// wait for them have not given up yet.
const STANDSTILL: Duration = Duration::from_secs(2);

/// How often a start looks for its Postgres, and the pause in between.
const STARTS: usize = 50;
const STARTING: Duration = Duration::from_millis(200);

/// The only encoding that holds every text.
const ENCODING: &str = "UTF8";

/// What the planner of Postgres is told: probe by index, once and for all. Statistics, or
/// their absence in a new database, would lead it astray, and planning anew costs more than
/// most statements.
const PROBES: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// A schema of a Postgres database.
#[derive(Clone, Debug)]
pub struct PostgresDb {
    pub read: Pool<Postgres>,
    /// Apart from those that read: writes that wait for a lock do not hold up reads that need
    /// none.
    pub write: Pool<Postgres>,
    /// For connections outside the pools.
    pub options: PgConnectOptions,
    /// As it was when it was opened.
    pub(crate) schema: Schema,
    condition: Condition,
}

impl PostgresDb {
    pub(crate) async fn open(
        url: &str,
        schema: &str,
        connections: u32,
        migrator: &Migrator,
        migrate: bool,
    ) -> Result<Self, OpenError> {
        let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
        let millis = |time: Duration| time.as_millis().to_string();
        let options = PgConnectOptions::from_str(url)?.options([
            ("search_path", quoted.clone()),
            ("statement_timeout", millis(STATEMENT_TIMEOUT)),
            ("idle_in_transaction_session_timeout", millis(STANDSTILL)),
        ]);
        let options = options.options(PROBES);
        let condition = Condition::default();
        let most = usize::try_from(connections).unwrap_or(usize::MAX);
        let for_writes = (most / 2).max(1);
        let for_reads = most.saturating_sub(for_writes).max(1);
        let pool = |most| Pool::new(options.clone(), most, ANSWER_TIMEOUT, &condition);
        let (read, write) = (pool(for_reads), pool(for_writes));
        // One that is just starting is waited for, and one that has no connection left.
        let pause = ConstantBuilder::new().with_delay(STARTING).with_max_times(STARTS);
        let passes = |error: &sqlx::Error| may_pass(error) && !is_of_tls(error, &options);
        let first = (async || read.take().await).retry(pause).when(passes);
        let mut first = first.await.map_err(|error| of_connecting(error, &options))?;
        let own = options.clone().options([("statement_timeout", "0")]);
        let role = prepare(&mut first, schema, quoted, migrate).await?;
        let brought = bring_up_to_date(&mut first, migrator, migrate, &own).await;
        let brought = brought.map_err(|error| of_rights(error, &role))?;
        look_at_rights(&mut first, schema, &role).await?;
        drop(first);
        Ok(Self { read, write, options, schema: brought, condition })
    }

    pub(crate) fn read(&self, sql: impl SqlSafeStr) -> Query<'_> {
        Query::on_postgres(On::Pool(&self.read), sql)
    }

    pub(crate) fn write(&self, sql: impl SqlSafeStr) -> Query<'_> {
        Query::on_postgres(On::Pool(&self.write), sql)
    }

    pub(crate) async fn reader(&self) -> Result<Conn, StoreError> {
        Ok(Conn::Postgres(self.read.lend().await?))
    }

    pub(crate) async fn writer(&self) -> Result<Conn, StoreError> {
        Ok(Conn::Postgres(self.write.lend().await?))
    }

    /// A connection outside the pools, with settings of its own: for who writes all the time.
    pub async fn connect(
        &self,
        settings: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Result<Conn, StoreError> {
        let options = self.options.clone().options(settings);
        let connected = timeout(ANSWER_TIMEOUT, connect(&options)).await;
        let connected = connected.map_err(|_| StoreError::late(ANSWER_TIMEOUT))??;
        Ok(Conn::own(connected, ANSWER_TIMEOUT, &self.condition))
    }
}

/// A connection outside the pools to a server that can be written.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut conn = options.connect().await?;
    Postgres::look(&mut conn).await?;
    Ok(conn)
}

/// What the server says of a session: its encoding, role, path, whether it may only read, and
/// whether it may use its schema, if that is there.
const SESSION: &str = "
    SELECT current_setting('server_encoding'), current_user::TEXT,
           current_setting('search_path'), current_setting('default_transaction_read_only') = 'on',
           (SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1)";

/// Looks whether the session is what was asked for and the database can hold every text, and
/// makes the schema if it is not there: where it is, nobody needs the right to. Returns the role.
async fn prepare(
    conn: &mut PgConnection,
    schema: &str,
    quoted: String,
    migrate: bool,
) -> Result<String, OpenError> {
    let look = sqlx::query_as(SESSION).bind(schema).fetch_one(&mut *conn);
    let (encoding, role, path, reads_only, usable): (String, String, String, bool, Option<bool>) =
        look.await.map_err(of_session)?;
    if path != quoted {
        return Err(OpenError::Pooled(format!("search_path is {path}")));
    }
    if encoding != ENCODING {
        return Err(OpenError::Encoding(encoding));
    }
    if reads_only {
        return Err(OpenError::ReadOnly(role));
    }
    if usable == Some(false) {
        return Err(OpenError::Rights { role, what: format!("use the schema {schema}") });
    }
    if usable.is_some() || !migrate {
        return Ok(role);
    }
    let create = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {quoted}"));
    match sqlx::raw_sql(create).execute(&mut *conn).await {
        Err(error) if is_denied(&error) => {
            Err(OpenError::Rights { role, what: format!("make the schema {schema}") })
        }
        // Two that start at once may both try; one of them finds it made.
        Err(error) if !is_unique_violation(&error) => Err(error.into()),
        _ => Ok(role),
    }
}

/// What a role may not do with something in a schema, though who serves must.
const LACKING: &str = "
    SELECT 'read and write the table ' || relname::TEXT
      FROM pg_class
     WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relkind IN ('r', 'p')
       AND relname <> '_sqlx_migrations'
       AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
    UNION ALL
    SELECT 'run the function ' || proname::TEXT
      FROM pg_proc
     WHERE pronamespace = to_regnamespace(quote_ident($1))
       AND NOT has_function_privilege(oid, 'EXECUTE')
     LIMIT 1";

/// Before anybody calls: what is missing would show with one call or another, hours later.
async fn look_at_rights(
    conn: &mut PgConnection,
    schema: &str,
    role: &str,
) -> Result<(), OpenError> {
    let look = sqlx::query_as(LACKING).bind(schema).fetch_optional(conn);
    let lacking: Option<(String,)> = look.await?;
    lacking.map_or(Ok(()), |(what,)| {
        let what = format!("{what} of the schema {schema}");
        Err(OpenError::Rights { role: role.to_owned(), what })
    })
}

/// Looks at the schema, and runs what is lacking if it may. On a connection of its own: what
/// changes a large table, or waits for another process that does, may take longer than any
/// statement of a request.
async fn bring_up_to_date(
    conn: &mut PgConnection,
    migrator: &Migrator,
    migrate: bool,
    options: &PgConnectOptions,
) -> Result<Schema, OpenError> {
    let schema = schema(conn, migrator).await?;
    if !migrate || schema.lacks.is_empty() {
        return schema.complete();
    }
    let mut own = connect(options).await.map_err(|error| of_connecting(error, options))?;
    migrator.run(&mut own).await?;
    own.close().await?;
    self::schema(conn, migrator).await?.complete()
}

async fn schema(conn: &mut PgConnection, migrator: &Migrator) -> Result<Schema, OpenError> {
    let has_any = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    let (has_any,): (bool,) = sqlx::query_as(has_any).fetch_one(&mut *conn).await?;
    let applied = if has_any { sqlx::query_as(APPLIED).fetch_all(conn).await? } else { Vec::new() };
    Schema::compare(migrator, &applied)
}

/// Why nobody could connect, in words that say what to change.
fn of_connecting(error: sqlx::Error, options: &PgConnectOptions) -> OpenError {
    if is_full(&error) {
        OpenError::Full(error)
    } else if is_of_tls(&error, options) {
        OpenError::Untrusted(error.to_string())
    } else {
        of_session(error)
    }
}

/// Why a session that has just begun is of no use, likewise.
fn of_session(error: sqlx::Error) -> OpenError {
    if is_of_pooler(&error) { OpenError::Pooled(error.to_string()) } else { error.into() }
}

/// What a role may not do, in words that say who may.
fn of_rights(error: OpenError, role: &str) -> OpenError {
    match &error {
        OpenError::Connect(why)
        | OpenError::Migrate(MigrateError::Execute(why) | MigrateError::ExecuteMigration(why, _))
            if is_denied(why) =>
        {
            let what = format!("bring the schema up to date ({why})");
            OpenError::Rights { role: role.to_owned(), what }
        }
        _ => error,
    }
}

/// Whether a start waits for it to pass: a server that is just starting, or has no connection
/// left just now.
fn may_pass(error: &sqlx::Error) -> bool {
    is_full(error) || (trouble(error) == Trouble::Lost && !is_of_pooler(error))
}

/// Whether the server, or the role, has all the connections that it may have.
fn is_full(error: &sqlx::Error) -> bool {
    has_code(error, "53300")
}

fn is_denied(error: &sqlx::Error) -> bool {
    has_code(error, "42501")
}

/// What a pooler says of a parameter that it does not pass on, or a server to which a pooler gives
/// the statements of one session after those of another: the first of ours that it has prepared is
/// there already, or is not.
fn is_of_pooler(error: &sqlx::Error) -> bool {
    (has_code(error, "08P01") && error.to_string().contains("startup parameter"))
        || has_code(error, "42P05")
        || has_code(error, "26000")
}

/// Whether a server is not whom the URL names, or does not speak TLS, or a file that the URL names
/// is not there: nothing of that passes.
fn is_of_tls(error: &sqlx::Error, options: &PgConnectOptions) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        // What rustls refuses.
        sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => true,
        // A server that is just starting lacks its socket.
        sqlx::Error::Io(error) => {
            error.kind() == ErrorKind::NotFound && options.get_socket().is_none()
        }
        _ => false,
    }
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some(code)
}
