//! The one way into the SQL databases of the suite: SQLite when embedded, Postgres when
//! distributed. A statement is written once for both, bounded in time, and its failure is a
//! [`StoreError`]:
//!
//! ```ignore
//! let (rooms,): (i64,) = db.read("SELECT COUNT(*) FROM rooms").fetch_one().await?;
//! let mut tx = db.begin().await?;
//! let found: Vec<(String, i16)> = tx
//!     .query(
//!         "SELECT user_id, role FROM (VALUES ($1, $2..)) w JOIN members
//!              ON log_id = w.column1 AND user_id = w.column2",
//!     )
//!     .bind(log_id)
//!     .bind_list(["ann", "bob"])
//!     .fetch_all()
//!     .await?;
//! tx.query("UPDATE rooms SET state = $2 WHERE log_id = $1").bind(log_id).bind(State::Gone as i16).execute().await?;
//! tx.commit().await?;
//! ```
//!
//! A Postgres whose established connections fall silent (a host that is gone, a network that
//! swallows what is sent) is left behind: a statement waits [`STATEMENT_TIMEOUT`] and a little
//! for its answer, then its connection is dropped, and so is every one that is as old.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable as _};
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Postgres, SqlSafeStr, Sqlite};
use tokio::time::timeout;

mod conn;
mod error;
mod migrations;
mod ping;
mod pool;
mod query;
mod row;
#[cfg(feature = "testing")]
pub mod testing;

pub use sqlx::AssertSqlSafe;
#[doc(hidden)]
pub use {include_dir, sqlx};

pub use self::conn::{Conn, Driver, Lent, Tx};
pub use self::error::{StoreError, Stored, Trouble};
pub use self::migrations::Migrations;
pub use self::ping::Ping;
pub use self::pool::Pool;
pub use self::query::{Query, Row, Value, rows};
#[doc(hidden)]
pub use self::row::check_names;
pub use self::row::{Columns, Joined};

use self::error::trouble;
use self::pool::Silence;
use self::query::On;

/// How long Postgres lets a statement take.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an answer of Postgres may take: it ends a statement itself, while it can be heard.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(3500);

/// How long Postgres keeps the locks of a transaction whose process stands still: those who
/// wait for them have not given up yet.
const STANDSTILL: Duration = Duration::from_secs(2);

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

/// How long the wait for a connection, and a statement of SQLite, may take.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a start looks for its Postgres, and the pause in between.
const STARTS: usize = 50;
const STARTING: Duration = Duration::from_millis(200);

/// A service's database.
#[derive(Clone, Debug)]
pub enum Db {
    Sqlite(SqliteDb),
    Postgres(PostgresDb),
}

/// A SQLite file: many readers, one writer.
#[derive(Clone, Debug)]
pub struct SqliteDb {
    pub read: Pool<Sqlite>,
    /// One connection: writers queue here instead of failing on a locked file.
    pub write: Pool<Sqlite>,
    pub options: SqliteConnectOptions,
}

/// A schema of a Postgres database.
#[derive(Clone, Debug)]
pub struct PostgresDb {
    pub pool: Pool<Postgres>,
    /// For connections outside the pool.
    pub options: PgConnectOptions,
    silence: Silence,
}

/// Which database to open.
#[derive(Clone, Debug)]
pub enum Location {
    /// A SQLite file; made if it is not there.
    Sqlite(PathBuf),
    /// A Postgres URL, the schema to use (made if it is not there), and the most
    /// connections of its pool.
    Postgres { url: String, schema: String, connections: u32 },
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot reach the database")]
    Connect(#[from] sqlx::Error),
    #[error("cannot bring the schema up to date")]
    Migrate(#[from] MigrateError),
}

impl Db {
    /// Opens a database and brings its schema up to date. On Postgres two that
    /// start at once wait for each other, as long as it takes.
    pub async fn open(location: &Location, migrations: Migrations) -> Result<Self, OpenError> {
        match location {
            Location::Sqlite(path) => {
                let db = sqlite(SqliteConnectOptions::new().filename(path));
                migrations.on_sqlite().run(&mut *db.write.lend().await?).await?;
                Ok(Self::Sqlite(db))
            }
            Location::Postgres { url, schema, connections } => {
                let db = open_postgres(url, schema, *connections).await?;
                migrate_postgres(&db, &migrations.on_postgres()).await?;
                Ok(Self::Postgres(db))
            }
        }
    }

    /// A statement that only reads.
    pub fn read(&self, sql: impl SqlSafeStr) -> Query<'_> {
        match self {
            Self::Sqlite(db) => Query::on_sqlite(On::Pool(&db.read), sql),
            Self::Postgres(db) => db.query(sql),
        }
    }

    /// A statement that writes, and is a transaction of its own.
    pub fn write(&self, sql: impl SqlSafeStr) -> Query<'_> {
        match self {
            Self::Sqlite(db) => Query::on_sqlite(On::Pool(&db.write), sql),
            Self::Postgres(db) => db.query(sql),
        }
    }

    /// How many reads it is asked at once at most.
    pub fn read_connections(&self) -> usize {
        match self {
            Self::Sqlite(db) => db.read.most(),
            Self::Postgres(db) => db.pool.most(),
        }
    }

    /// A connection for several statements that only read.
    pub async fn reader(&self) -> Result<Conn, StoreError> {
        Ok(match self {
            Self::Sqlite(db) => Conn::Sqlite(db.read.lend().await?),
            Self::Postgres(db) => Conn::Postgres(db.pool.lend().await?),
        })
    }

    /// A connection that may write.
    pub async fn writer(&self) -> Result<Conn, StoreError> {
        Ok(match self {
            Self::Sqlite(db) => Conn::Sqlite(db.write.lend().await?),
            Self::Postgres(db) => Conn::Postgres(db.pool.lend().await?),
        })
    }

    /// Begins a transaction that writes.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Tx::begin(self.writer().await?).await
    }

    /// Closes every connection of the pools.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(db) => {
                db.read.close().await;
                db.write.close().await;
            }
            Self::Postgres(db) => db.pool.close().await,
        }
    }

    /// How strong "stored" is: the settings that would lose acknowledged writes in
    /// a crash, empty if there are none.
    pub async fn unsafe_settings(&self) -> Result<Vec<String>, StoreError> {
        let Self::Postgres(db) = self else { return Ok(Vec::new()) };
        let settings = db.query(
            "SELECT name || '=' || setting FROM pg_settings WHERE setting = 'off'
             AND name IN ('fsync', 'full_page_writes', 'synchronous_commit')",
        );
        let settings: Vec<(String,)> = settings.fetch_all().await?;
        Ok(settings.into_iter().map(|(setting,)| setting).collect())
    }
}

impl PostgresDb {
    fn query(&self, sql: impl SqlSafeStr) -> Query<'_> {
        Query::on_postgres(On::Pool(&self.pool), sql)
    }

    /// A connection outside the pool, with settings of its own: for who writes all the time.
    pub async fn connect(
        &self,
        settings: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Result<Conn, StoreError> {
        let options = self.options.clone().options(settings);
        let connected = timeout(ANSWER_TIMEOUT, options.connect()).await;
        let connected = connected.map_err(|_| StoreError::late(ANSWER_TIMEOUT))??;
        Ok(Conn::own(connected, ANSWER_TIMEOUT, &self.silence))
    }
}

/// Whether an error is a violated unique constraint.
pub fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

fn sqlite(options: SqliteConnectOptions) -> SqliteDb {
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged write survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        // The largest page of a list, so that its rows are not handed over one by one.
        .row_buffer_size(128);
    let pool = |most| Pool::new(options.clone(), most, WAIT_TIMEOUT, None);
    SqliteDb { read: pool(8), write: pool(1), options: options.clone() }
}

/// On a connection of its own: what changes a large table, or waits for another process
/// that does, may take longer than any statement of a request.
async fn migrate_postgres(
    db: &PostgresDb,
    migrator: &sqlx::migrate::Migrator,
) -> Result<(), OpenError> {
    let mut conn = db.options.clone().options([("statement_timeout", "0")]).connect().await?;
    migrator.run(&mut conn).await?;
    conn.close().await?;
    Ok(())
}

async fn open_postgres(
    url: &str,
    schema: &str,
    connections: u32,
) -> Result<PostgresDb, sqlx::Error> {
    let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
    let millis = |time: Duration| time.as_millis().to_string();
    let options = PgConnectOptions::from_str(url)?.options([
        ("search_path", quoted.clone()),
        ("statement_timeout", millis(STATEMENT_TIMEOUT)),
        ("idle_in_transaction_session_timeout", millis(STANDSTILL)),
    ]);
    let options = options.options(PROBES);
    let silence = Silence::default();
    let most = usize::try_from(connections).unwrap_or(usize::MAX);
    let pool = Pool::new(options.clone(), most, ANSWER_TIMEOUT, Some(silence.clone()));
    // One that is just starting is waited for.
    let pause = ConstantBuilder::new().with_delay(STARTING).with_max_times(STARTS);
    let first =
        (async || pool.lend().await).retry(pause).when(|error| trouble(error) == Trouble::Lost);
    let mut first = first.await?;
    let create = format!("CREATE SCHEMA IF NOT EXISTS {quoted}");
    if let Err(error) = sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut *first).await {
        // Two that start at once may both try; one of them finds it made.
        if !is_unique_violation(&error) {
            return Err(error);
        }
    }
    Ok(PostgresDb { pool, options, silence })
}
