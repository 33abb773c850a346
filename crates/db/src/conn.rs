//! Connections that a pool lends and is certain to get back or to lose, and transactions.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Database, PgConnection, Pool, Postgres, SqlSafeStr, Sqlite, SqliteConnection};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::StoreError;
use crate::query::{On, Query};

/// How long a connection that comes back may take to show that it lives.
const LIVES: Duration = Duration::from_secs(1);

/// When a connection was last found silent. Those that are older are not used again: they
/// lead to the same server, over the same network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence(Arc<Mutex<Option<Instant>>>);

impl Silence {
    pub(crate) fn noticed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that has been open for `age` is older, so that it may be silent too.
    pub(crate) fn is_within(&self, age: Duration) -> bool {
        let noticed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noticed.is_some_and(|noticed| noticed.elapsed() < age)
    }
}

/// What a transaction needs of a driver.
pub trait Driver: Database {
    /// Begins a transaction that writes: on SQLite with the write lock taken, so that it never
    /// fails half-way on it.
    const BEGIN: &str;

    #[doc(hidden)]
    fn run(
        conn: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl Driver for Sqlite {
    const BEGIN: &str = "BEGIN IMMEDIATE";

    async fn run(conn: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(conn).await.map(drop)
    }
}

impl Driver for Postgres {
    const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

    async fn run(conn: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(conn).await.map(drop)
    }
}

/// A connection for as long as this is held. A transaction that is open on it when it is
/// dropped is rolled back.
///
/// The pool asks each connection that comes back whether it lives, and by itself waits for
/// the answer without bound while the place of the connection stays taken: a server that
/// falls silent would so take the whole pool until TCP gives up, a quarter of an hour later.
pub struct Lent<DB: Driver> {
    /// There until this is dropped.
    line: Option<Line<DB>>,
    /// How long a statement may take.
    limit: Duration,
    /// Whether a transaction is open.
    open: bool,
    /// Whether something on it has no known end, so that nobody may use it again.
    unfit: bool,
    /// Where it is told that the connection fell silent.
    silence: Option<Silence>,
}

enum Line<DB: Database> {
    /// Of a pool. Boxed: it is large, and within the future of every read.
    Pooled(Box<PoolConnection<DB>>),
    /// Of whoever holds it.
    Own(Box<DB::Connection>),
}

/// Takes a connection of a pool.
pub(crate) async fn lend<DB: Driver>(pool: &Pool<DB>) -> Result<Lent<DB>, sqlx::Error> {
    let line = Line::Pooled(Box::new(Box::pin(pool.acquire()).await?));
    Ok(Lent::new(line, crate::WAIT_TIMEOUT, None))
}

impl<DB: Driver> Lent<DB> {
    const fn new(line: Line<DB>, limit: Duration, silence: Option<Silence>) -> Self {
        Self { line: Some(line), limit, open: false, unfit: false, silence }
    }

    pub(crate) fn within(mut self, limit: Duration, silence: Option<&Silence>) -> Self {
        self.limit = limit;
        self.silence = silence.cloned();
        self
    }

    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// What came of a statement that was given [`Self::limit`].
    pub(crate) fn judge<T>(
        &mut self,
        run: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, StoreError> {
        if let Ok(result) = run {
            return Ok(result?);
        }
        self.unfit = true;
        if let Some(silence) = &self.silence {
            silence.noticed();
        }
        Err(StoreError::late(self.limit))
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        self.turn(DB::BEGIN).await?;
        self.open = true;
        Ok(())
    }

    async fn end(&mut self, end: &'static str) -> Result<(), StoreError> {
        let ended = self.turn(end).await;
        self.open &= ended.is_err();
        ended
    }

    /// Begins or ends a transaction. Cut short, nobody knows whether one is open.
    async fn turn(&mut self, sql: &'static str) -> Result<(), StoreError> {
        self.unfit = true;
        let run = timeout(self.limit, DB::run(self, sql)).await;
        self.unfit = false;
        self.judge(run)
    }
}

impl<DB: Driver> fmt::Debug for Lent<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lent")
    }
}

const HELD: &str = "held until it is dropped";

impl<DB: Driver> Deref for Lent<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        match self.line.as_ref().expect(HELD) {
            Line::Pooled(conn) => conn,
            Line::Own(conn) => conn,
        }
    }
}

impl<DB: Driver> DerefMut for Lent<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        match self.line.as_mut().expect(HELD) {
            Line::Pooled(conn) => conn,
            Line::Own(conn) => conn,
        }
    }
}

impl<DB: Driver> Drop for Lent<DB> {
    fn drop(&mut self) {
        let Some(Line::Pooled(mut conn)) = self.line.take() else { return };
        if self.unfit {
            // Not run, the return drops the connection and frees its place.
            drop(conn.return_to_pool());
            return;
        }
        let (open, silence) = (self.open, self.silence.take());
        tokio::spawn(async move {
            let back = async {
                if !open || DB::run(&mut conn, "ROLLBACK").await.is_ok() {
                    conn.return_to_pool().await;
                }
            };
            if let (Err(_), Some(silence)) = (timeout(LIVES, back).await, silence) {
                silence.noticed();
            }
            drop(conn.return_to_pool());
        });
    }
}

/// A connection to either database, for several statements or for a transaction.
///
/// The variants are for what only one of the databases can do; [`Conn::query`] is for all else.
#[derive(Debug)]
pub enum Conn {
    Sqlite(Lent<Sqlite>),
    Postgres(Lent<Postgres>),
}

/// Runs one body on whichever connection it is; compiled once per driver.
macro_rules! on_either {
    ($conn:expr, |$c:ident| $body:expr) => {
        match $conn {
            Conn::Sqlite($c) => $body,
            Conn::Postgres($c) => $body,
        }
    };
}

impl Conn {
    /// A connection that no pool knows of.
    pub(crate) fn own(conn: PgConnection, limit: Duration, silence: &Silence) -> Self {
        let line = Line::Own(Box::new(conn));
        Self::Postgres(Lent::new(line, limit, Some(silence.clone())))
    }

    /// A statement to be run on this connection.
    pub fn query(&mut self, sql: impl SqlSafeStr) -> Query<'_> {
        match self {
            Self::Sqlite(conn) => Query::on_sqlite(On::Conn(conn), sql),
            Self::Postgres(conn) => Query::on_postgres(On::Conn(conn), sql),
        }
    }

    /// Sets how long each statement may take from now on.
    pub fn set_limit(&mut self, limit: Duration) {
        on_either!(self, |conn| conn.limit = limit);
    }

    /// Begins a transaction that writes, at READ COMMITTED or stricter.
    pub async fn begin(&mut self) -> Result<(), StoreError> {
        on_either!(self, |conn| conn.begin().await)
    }

    /// Fails if the transaction may not have been committed.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        on_either!(self, |conn| conn.end("COMMIT").await)
    }

    /// Ends the transaction, if one is open, as if nothing had been written in it.
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        on_either!(self, |conn| if conn.open { conn.end("ROLLBACK").await } else { Ok(()) })
    }
}

/// A transaction that writes. Dropping it rolls it back, also when its request is cancelled
/// half-way.
#[derive(Debug)]
pub struct Tx(Conn);

impl Tx {
    pub(crate) async fn begin(mut conn: Conn) -> Result<Self, StoreError> {
        conn.begin().await?;
        Ok(Self(conn))
    }

    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.0.commit().await
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}
