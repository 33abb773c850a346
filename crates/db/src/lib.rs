//! The SQL databases of the suite: SQLite when embedded, Postgres when distributed.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgPool, Postgres, Sqlite, SqlitePool, Transaction};

mod lent;
mod ping;
#[cfg(feature = "testing")]
pub mod testing;

pub use self::lent::{Lent, lend};
pub use self::ping::Ping;

/// How long a connection may be idle and still count as alive.
const IDLE: Duration = Duration::from_secs(1);

/// How long a statement, or the wait for a connection, may take.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A service's database.
#[derive(Clone, Debug)]
pub enum Db {
    Sqlite(SqliteDb),
    Postgres(PostgresDb),
}

/// A SQLite file: many readers, one writer.
#[derive(Clone, Debug)]
pub struct SqliteDb {
    pub read: SqlitePool,
    /// One connection: writers queue here instead of failing on a locked file.
    pub write: SqlitePool,
    pub options: SqliteConnectOptions,
}

/// A schema of a Postgres database.
#[derive(Clone, Debug)]
pub struct PostgresDb {
    pub pool: PgPool,
    /// For connections outside the pool.
    pub options: PgConnectOptions,
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

/// The migrations of one service, one set per database.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    pub sqlite: &'static Migrator,
    pub postgres: &'static Migrator,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot reach the database")]
    Connect(#[from] sqlx::Error),
    #[error("cannot bring the schema up to date")]
    Migrate(#[from] MigrateError),
}

/// Runs one body on the readers of whichever database is open.
///
/// The body is compiled once per driver, so its SQL keeps to what SQLite and
/// Postgres share: `$1` placeholders, `ON CONFLICT`, `RETURNING`.
#[macro_export]
macro_rules! read_db {
    ($db:expr, |$pool:ident| $body:expr) => {
        match $db {
            $crate::Db::Sqlite(db) => {
                let $pool = &db.read;
                $body
            }
            $crate::Db::Postgres(db) => {
                let $pool = &db.pool;
                $body
            }
        }
    };
}

/// Runs one body on the writers of whichever database is open.
///
/// Begin a transaction with [`WritePool::begin_write`]: on SQLite it takes the
/// write lock at once, so that a transaction never fails half-way on it.
#[macro_export]
macro_rules! write_db {
    ($db:expr, |$pool:ident| $body:expr) => {
        match $db {
            $crate::Db::Sqlite(db) => {
                let $pool = &db.write;
                $body
            }
            $crate::Db::Postgres(db) => {
                let $pool = &db.pool;
                $body
            }
        }
    };
}

/// Begins transactions that write.
pub trait WritePool {
    type Database: sqlx::Database;

    /// Begins a transaction; on SQLite with the write lock taken.
    fn begin_write(
        &self,
    ) -> impl Future<Output = Result<Transaction<'static, Self::Database>, sqlx::Error>> + Send;
}

impl WritePool for SqlitePool {
    type Database = Sqlite;

    async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.begin_with("BEGIN IMMEDIATE").await
    }
}

impl WritePool for PgPool {
    type Database = Postgres;

    async fn begin_write(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await
    }
}

impl Db {
    /// Opens a database and brings its schema up to date. On Postgres two that
    /// start at once wait for each other, as long as it takes.
    pub async fn open(location: &Location, migrations: Migrations) -> Result<Self, OpenError> {
        match location {
            Location::Sqlite(path) => {
                let db = open_sqlite(SqliteConnectOptions::new().filename(path)).await?;
                migrations.sqlite.run(&db.write).await?;
                Ok(Self::Sqlite(db))
            }
            Location::Postgres { url, schema, connections } => {
                let db = open_postgres(url, schema, *connections).await?;
                migrate_postgres(&db, migrations.postgres).await?;
                Ok(Self::Postgres(db))
            }
        }
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
    pub async fn unsafe_settings(&self) -> Result<Vec<String>, sqlx::Error> {
        let Self::Postgres(db) = self else { return Ok(Vec::new()) };
        sqlx::query_scalar(
            "SELECT name || '=' || setting FROM pg_settings WHERE setting = 'off'
             AND name IN ('fsync', 'full_page_writes', 'synchronous_commit')",
        )
        .fetch_all(&db.pool)
        .await
    }
}

/// Whether an error is a violated unique constraint.
pub fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

async fn open_sqlite(options: SqliteConnectOptions) -> Result<SqliteDb, sqlx::Error> {
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged write survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5));
    let pool = || SqlitePoolOptions::new().acquire_timeout(STATEMENT_TIMEOUT);
    let write = pool().max_connections(1).connect_with(options.clone()).await?;
    let read = pool().max_connections(8).connect_with(options.clone()).await?;
    Ok(SqliteDb { read, write, options })
}

/// On a connection of its own: what changes a large table, or waits for another process
/// that does, may take longer than any statement of a request.
async fn migrate_postgres(db: &PostgresDb, migrator: &Migrator) -> Result<(), OpenError> {
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
    let timeout = STATEMENT_TIMEOUT.as_millis().to_string();
    let options = PgConnectOptions::from_str(url)?
        .options([("search_path", quoted.as_str()), ("statement_timeout", timeout.as_str())])
        // A process that stops mid-transaction gives its locks back.
        .options([("idle_in_transaction_session_timeout", timeout.as_str())]);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(STATEMENT_TIMEOUT)
        // One that was in use a moment ago need not be asked whether it lives.
        .test_before_acquire(false)
        .before_acquire(|conn, meta| {
            Box::pin(async move {
                if meta.idle_for < IDLE {
                    return Ok(true);
                }
                let ping = tokio::time::timeout(IDLE, conn.ping()).await;
                ping.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(|()| true)
            })
        })
        .connect_with(options.clone())
        .await?;
    let create = format!("CREATE SCHEMA IF NOT EXISTS {quoted}");
    if let Err(error) = sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&pool).await {
        // Two that start at once may both try; one of them finds it made.
        if !is_unique_violation(&error) {
            return Err(error);
        }
    }
    Ok(PostgresDb { pool, options })
}
