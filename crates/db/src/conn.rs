//! Connections that a pool lends and is certain to get back or to lose, and transactions.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::managed::Object;
use sqlx::{
    Connection as _, Database, PgConnection, Postgres, Row as _, SqlSafeStr, Sqlite,
    SqliteConnection,
};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::StoreError;
use crate::pool::{Condition, Line};
use crate::query::{On, Query};
use crate::shares::Share;
use crate::sqlite::{MEND, is_damage};

/// How long a connection may take to show that it lives, after it was left in the middle of
/// something.
const LIVES: Duration = Duration::from_secs(1);

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

    /// Whether a connection lives, and leads to a database that can be written: one that cannot
    /// is behind another, which is. One round trip.
    #[doc(hidden)]
    fn look(conn: &mut Self::Connection) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl Driver for Sqlite {
    const BEGIN: &str = "BEGIN IMMEDIATE";

    async fn run(conn: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(conn).await.map(drop)
    }

    async fn look(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        conn.ping().await
    }
}

impl Driver for Postgres {
    const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

    async fn run(conn: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(conn).await.map(drop)
    }

    async fn look(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        // Not prepared: that would be a round trip more.
        let look = sqlx::raw_sql("SELECT pg_is_in_recovery()").fetch_one(conn).await?;
        if look.try_get(0)? {
            return Err(sqlx::Error::Io(io::Error::other("the server is a standby")));
        }
        Ok(())
    }
}

/// A connection for as long as this is held. A transaction that is open on it when it is
/// dropped is rolled back.
///
/// Back in the pool it is at once, if all that was asked on it has its answer. Otherwise it
/// first shows that it lives, in bounded time: a server that fell silent would else take the
/// whole pool until TCP gives up, a quarter of an hour later.
pub struct Lent<DB: Driver> {
    /// There until this is dropped.
    line: Option<Held<DB>>,
    /// How long a statement may take.
    limit: Duration,
    /// Whether a transaction is open.
    open: bool,
    /// Whether a statement is without its answer.
    asked: bool,
    /// Whether something on it has no known end, so that nobody may use it again.
    unfit: bool,
    /// Where it is told that the connection fell silent, or the database is damaged.
    condition: Condition,
    /// What its caller has of the pool. Last, so that it is given back after the connection, to
    /// which whoever waits for one comes first.
    share: Option<Share>,
}

enum Held<DB: Driver> {
    Pooled(Line<DB>),
    /// Of whoever holds it.
    Own(Box<DB::Connection>),
}

impl<DB: Driver> Lent<DB> {
    pub(crate) const fn pooled(line: Line<DB>, limit: Duration, condition: Condition) -> Self {
        Self::new(Held::Pooled(line), limit, condition)
    }

    const fn new(line: Held<DB>, limit: Duration, condition: Condition) -> Self {
        let line = Some(line);
        Self { line, limit, open: false, asked: false, unfit: false, condition, share: None }
    }

    /// The same connection as a part of what its caller may have at once.
    pub(crate) fn with(mut self, share: Option<Share>) -> Self {
        self.share = share;
        self
    }

    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// The connection, to be asked something. What comes of it is to be [judged](Self::judge).
    pub(crate) fn ask(&mut self) -> &mut DB::Connection {
        self.asked = true;
        self
    }

    /// What came of a statement that was given `limit`.
    pub(crate) fn judge<T>(
        &mut self,
        limit: Duration,
        answer: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, StoreError> {
        self.asked = false;
        let late = answer.is_err();
        let answer = answer.map_or_else(
            |_| Err(StoreError::late(limit)),
            |answer| answer.map_err(StoreError::from),
        );
        self.unfit |= answer.as_ref().is_err_and(StoreError::ends_connection);
        if late {
            self.condition.noticed_silence();
        }
        if let Err(StoreError::Broken(error)) = &answer
            && is_damage(error)
        {
            self.condition.breaks(&format!("a database is damaged ({error}): {MEND}"));
        }
        answer
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
        let (limit, conn) = (self.limit, self.ask());
        let turned = timeout(limit, DB::run(conn, sql)).await;
        self.unfit = false;
        self.judge(limit, turned)
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
            Held::Pooled(conn) => conn,
            Held::Own(conn) => conn,
        }
    }
}

impl<DB: Driver> DerefMut for Lent<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        match self.line.as_mut().expect(HELD) {
            Held::Pooled(conn) => conn,
            Held::Own(conn) => conn,
        }
    }
}

impl<DB: Driver> Drop for Lent<DB> {
    fn drop(&mut self) {
        let Some(Held::Pooled(mut conn)) = self.line.take() else { return };
        if self.unfit {
            drop(Object::take(conn));
        } else if self.open || self.asked {
            let (open, condition) = (self.open, self.condition.clone());
            let share = self.share.take();
            tokio::spawn(async move {
                let lives = async {
                    if open { DB::run(&mut conn, "ROLLBACK").await } else { conn.ping().await }
                };
                let lives = timeout(LIVES, lives).await;
                if lives.is_err() {
                    condition.noticed_silence();
                }
                if matches!(lives, Ok(Ok(()))) {
                    drop(conn);
                } else {
                    drop(Object::take(conn));
                }
                drop(share);
            });
        }
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
    pub(crate) fn own(conn: PgConnection, limit: Duration, condition: &Condition) -> Self {
        let line = Held::Own(Box::new(conn));
        Self::Postgres(Lent::new(line, limit, condition.clone()))
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

    pub async fn rollback(mut self) -> Result<(), StoreError> {
        self.0.rollback().await
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
