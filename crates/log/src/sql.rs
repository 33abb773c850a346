//! One SQL body for both databases.

use parlance_db::Db;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Sqlite};

/// The connection of a writer.
#[derive(Debug)]
pub enum Conn {
    /// The one connection that writes, taken for one transaction at a time.
    Sqlite(PoolConnection<Sqlite>),
    Postgres(Box<PgConnection>),
}

/// Runs one body on whichever connection it is; compiled once per driver.
#[macro_export]
macro_rules! on {
    ($conn:expr, |$c:ident| $body:expr) => {
        match $conn {
            $crate::Conn::Sqlite(conn) => {
                let $c = &mut **conn;
                $body
            }
            $crate::Conn::Postgres(conn) => {
                let $c = &mut **conn;
                $body
            }
        }
    };
}

impl Conn {
    /// A connection for one transaction; the pool is rid of one to Postgres.
    pub(crate) async fn take(db: &Db) -> Result<Self, sqlx::Error> {
        Ok(match db {
            Db::Sqlite(db) => Self::Sqlite(Box::pin(db.write.acquire()).await?),
            Db::Postgres(db) => {
                Self::Postgres(Box::new(Box::pin(db.pool.acquire()).await?.detach()))
            }
        })
    }

    /// Gives the connection up; `clean`: no transaction is open on it.
    pub(crate) fn end(self, clean: bool) {
        if let (Self::Sqlite(conn), false) = (self, clean) {
            drop(conn.detach());
        }
    }

    /// Begins a transaction; on SQLite with the write lock taken.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        let begin = match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        self.execute(begin).await
    }

    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.execute("COMMIT").await
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.execute("ROLLBACK").await
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        on!(self, |c| sqlx::query(sql).execute(c).await.map(drop))
    }
}
