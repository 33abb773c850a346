//! A schema of a Postgres database.

use std::str::FromStr;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable as _};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Postgres, SqlSafeStr};
use tokio::time::timeout;

use crate::conn::{Conn, Driver as _};
use crate::error::{Trouble, trouble};
use crate::pool::{Condition, Pool};
use crate::query::{On, Query};
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
    condition: Condition,
}

impl PostgresDb {
    pub(crate) async fn open(url: &str, schema: &str, connections: u32) -> Result<Self, OpenError> {
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
        // One that is just starting is waited for.
        let pause = ConstantBuilder::new().with_delay(STARTING).with_max_times(STARTS);
        let first =
            (async || read.take().await).retry(pause).when(|error| trouble(error) == Trouble::Lost);
        prepare(&mut *first.await?, schema, quoted).await?;
        Ok(Self { read, write, options, condition })
    }

    /// Brings the schema up to date. On a connection of its own: what changes a large table,
    /// or waits for another process that does, may take longer than any statement of a
    /// request.
    pub(crate) async fn migrate(&self, migrator: &Migrator) -> Result<(), OpenError> {
        if self.is_up_to_date(migrator).await? {
            return Ok(());
        }
        let mut conn = connect(&self.options.clone().options([("statement_timeout", "0")])).await?;
        migrator.run(&mut conn).await?;
        conn.close().await?;
        Ok(())
    }

    /// Whether every migration was run, and no other: then who serves needs no right to make
    /// tables.
    async fn is_up_to_date(&self, migrator: &Migrator) -> Result<bool, sqlx::Error> {
        let has_any = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        let mut conn = self.read.take().await?;
        let (has_any,): (bool,) = sqlx::query_as(has_any).fetch_one(&mut *conn).await?;
        if !has_any {
            return Ok(false);
        }
        let run = "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version";
        let run: Vec<(i64, Vec<u8>)> = sqlx::query_as(run).fetch_all(&mut *conn).await?;
        Ok(run
            .iter()
            .map(|(version, sum)| (*version, &sum[..]))
            .eq(migrator.iter().map(|migration| (migration.version, &migration.checksum[..]))))
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

/// Looks whether the database can hold every text, and makes the schema if it is not there:
/// where it is, nobody needs the right to.
async fn prepare(conn: &mut PgConnection, schema: &str, quoted: String) -> Result<(), OpenError> {
    let look = "SELECT current_setting('server_encoding'),
                       EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    let look = sqlx::query_as(look).bind(schema).fetch_one(&mut *conn);
    let (encoding, is_there): (String, bool) = look.await?;
    if encoding != ENCODING {
        return Err(OpenError::Encoding(encoding));
    }
    if is_there {
        return Ok(());
    }
    let create = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {quoted}"));
    match sqlx::raw_sql(create).execute(&mut *conn).await {
        // Two that start at once may both try; one of them finds it made.
        Err(error) if !is_unique_violation(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
