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
use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::MigrateError;

mod conn;
mod copy;
mod error;
mod migrations;
mod ping;
mod pool;
mod postgres;
mod query;
mod row;
mod schema;
mod shares;
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;

pub use sqlx::AssertSqlSafe;
#[doc(hidden)]
pub use {include_dir, sqlx};

pub use self::conn::{Conn, Driver, Lent, Tx};
pub use self::copy::copy;
pub use self::error::{StoreError, Stored, Trouble};
pub use self::migrations::Migrations;
pub use self::ping::Ping;
pub use self::pool::{Pool, PoolUse};
pub use self::postgres::PostgresDb;
pub use self::query::{Query, Row, Value, rows};
#[doc(hidden)]
pub use self::row::check_names;
pub use self::row::{Columns, Joined};
pub use self::schema::Schema;
pub use self::sqlite::SqliteDb;

/// How long Postgres lets a statement take.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the wait for a connection, and a statement of SQLite, may take.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A service's database.
#[derive(Clone, Debug)]
pub enum Db {
    Sqlite(SqliteDb),
    Postgres(PostgresDb),
}

/// What a Postgres says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Its clock, in microseconds.
    pub clock: i64,
    /// How many connections it has for roles that are no superusers, and how many are used.
    pub connections: i64,
    pub used: i64,
}

/// Which database to open.
#[derive(Clone, Debug)]
pub enum Location {
    /// A SQLite file; made if it is not there.
    Sqlite(PathBuf),
    /// A Postgres URL, the schema to use (made if it is not there), and the most
    /// connections of its pools: half of them for writes, at least one each.
    Postgres { url: String, schema: String, connections: u32 },
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot reach the database")]
    Connect(#[from] sqlx::Error),
    #[error(
        "the database is in {0} and must be in UTF8: create one with ENCODING 'UTF8' TEMPLATE \
         template0, bring what is kept into it, and name it as the store"
    )]
    Encoding(String),
    #[error("the file {} is damaged: put a backup of the folder back", .0.display())]
    Damaged(PathBuf, #[source] sqlx::Error),
    #[error("cannot bring the schema up to date")]
    Migrate(#[from] MigrateError),
    #[error(
        "the schema is older than this program: it lacks the migrations {0:?}; run `parlance \
         migrate` of this version with the same store, as the role that owns the schema"
    )]
    Older(Vec<i64>),
    #[error(
        "the schema is too new for this program: the migration {number} ({name}) took away what \
         it uses, and is for programs that know migration {needed}: start a newer version"
    )]
    Contracted { number: i64, name: String, needed: i64 },
    #[error(
        "the role \"{role}\" may not {what}: run `parlance migrate` as a role that may, and this \
         with --no-migrate; docs/operations.md lists the rights of both"
    )]
    Rights { role: String, what: String },
    #[error(
        "a session does not have the settings that it was opened with ({0}): a pooler in between \
         refuses or drops them; name the Postgres server itself as the store"
    )]
    Pooled(String),
    #[error(
        "the database is not known over TLS as its URL asks for it ({0}): sslrootcert must be the \
         file of the CA of its certificate, its host a name in that certificate, and ssl be on \
         there"
    )]
    Untrusted(String),
    #[error(
        "transactions of the role \"{0}\" are read only (default_transaction_read_only): set it \
         back with ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only"
    )]
    ReadOnly(String),
    #[error(
        "the server has no connection left for this process: raise its max_connections, or lower \
         --connections and --writers"
    )]
    Full(#[source] sqlx::Error),
}

impl Db {
    /// Opens a database and brings its schema up to date. On Postgres two that
    /// start at once wait for each other, as long as it takes.
    pub async fn open(location: &Location, migrations: Migrations) -> Result<Self, OpenError> {
        Self::open_and(true, location, migrations).await
    }

    /// Opens a database whose schema somebody else brings up to date: nothing is made or changed
    /// in it, and one that lacks a migration is refused.
    pub async fn open_as_it_is(
        location: &Location,
        migrations: Migrations,
    ) -> Result<Self, OpenError> {
        Self::open_and(false, location, migrations).await
    }

    async fn open_and(
        migrate: bool,
        location: &Location,
        migrations: Migrations,
    ) -> Result<Self, OpenError> {
        match location {
            Location::Sqlite(path) => {
                SqliteDb::open(path, migrations, migrate).await.map(Self::Sqlite)
            }
            Location::Postgres { url, schema, connections } => {
                let migrator = migrations.on_postgres();
                let db = PostgresDb::open(url, schema, *connections, &migrator, migrate).await;
                db.map(Self::Postgres)
            }
        }
    }

    /// The migrations that were run in it and that this program does not know.
    pub fn newer(&self) -> &[i64] {
        match self {
            Self::Sqlite(db) => &db.schema.newer,
            Self::Postgres(db) => &db.schema.newer,
        }
    }

    /// A statement that only reads.
    pub fn read(&self, sql: impl SqlSafeStr) -> Query<'_> {
        match self {
            Self::Sqlite(db) => db.read(sql),
            Self::Postgres(db) => db.read(sql),
        }
    }

    /// A statement that writes, and is a transaction of its own.
    pub fn write(&self, sql: impl SqlSafeStr) -> Query<'_> {
        match self {
            Self::Sqlite(db) => db.write(sql),
            Self::Postgres(db) => db.write(sql),
        }
    }

    /// How many reads it is asked at once at most.
    pub fn read_connections(&self) -> usize {
        match self {
            Self::Sqlite(db) => db.read.most(),
            Self::Postgres(db) => db.read.most(),
        }
    }

    /// How much of the pools is in use: of the one for reads, and of the one for writes.
    pub fn pools(&self) -> [(&'static str, PoolUse); 2] {
        let [read, write] = match self {
            Self::Sqlite(db) => [db.read.use_of(), db.write.use_of()],
            Self::Postgres(db) => [db.read.use_of(), db.write.use_of()],
        };
        [("read", read), ("write", write)]
    }

    /// A connection for several statements that only read.
    pub async fn reader(&self) -> Result<Conn, StoreError> {
        match self {
            Self::Sqlite(db) => db.reader().await,
            Self::Postgres(db) => db.reader().await,
        }
    }

    /// A connection that may write.
    pub async fn writer(&self) -> Result<Conn, StoreError> {
        match self {
            Self::Sqlite(db) => db.writer().await,
            Self::Postgres(db) => db.writer().await,
        }
    }

    /// Begins a transaction that writes.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Tx::begin(self.writer().await?).await
    }

    /// Closes every connection of the pools.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(db) => db.close().await,
            Self::Postgres(db) => {
                db.read.close().await;
                db.write.close().await;
            }
        }
    }

    /// Has `tell` called with what is to be done once the database is of no use any more, before
    /// anybody fails of it. Only a file comes to that.
    pub fn when_broken(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        if let Self::Sqlite(db) = self {
            db.when_broken(tell);
        }
    }

    /// What the server says of itself; `None` of a file.
    pub async fn server(&self) -> Result<Option<Server>, StoreError> {
        let Self::Postgres(db) = self else { return Ok(None) };
        let asked = db.read(
            "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT,
                    current_setting('max_connections')::BIGINT
                    - current_setting('superuser_reserved_connections')::BIGINT,
                    (SELECT COUNT(*) FROM pg_stat_activity WHERE backend_type = 'client backend')",
        );
        let (clock, connections, used): (i64, i64, i64) = asked.fetch_one().await?;
        Ok(Some(Server { clock, connections, used }))
    }

    /// How strong "stored" is: the settings that would lose acknowledged writes in
    /// a crash, empty if there are none.
    pub async fn unsafe_settings(&self) -> Result<Vec<String>, StoreError> {
        let Self::Postgres(db) = self else { return Ok(Vec::new()) };
        let settings = db.read(
            "SELECT name || '=' || setting FROM pg_settings WHERE setting = 'off'
             AND name IN ('fsync', 'full_page_writes', 'synchronous_commit')",
        );
        let settings: Vec<(String,)> = settings.fetch_all().await?;
        Ok(settings.into_iter().map(|(setting,)| setting).collect())
    }
}

/// Whether an error is a violated unique constraint.
pub fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
