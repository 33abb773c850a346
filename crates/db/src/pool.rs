//! The connections of a database, which are lent and come back.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{
    self, Manager, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult,
};
use sqlx::{ConnectOptions as _, Connection};
use tokio::time::timeout;

use crate::conn::{Driver, Lent};
use crate::shares::Shares;
use crate::{StoreError, WAIT_TIMEOUT};

/// How long a connection may be idle and still count as alive.
const IDLE: Duration = Duration::from_secs(1);

/// After how long a connection is replaced: what its session has gathered goes with it.
const LIFE: Duration = Duration::from_mins(30);

/// What is known of a database beyond its single connections. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// When a connection was last found silent. Those that are older are not used again: they
    /// lead to the same server, over the same network.
    silent: Mutex<Option<Instant>>,
    /// Why nothing is read or written any more, and what to do.
    broken: OnceLock<String>,
    /// Who says so, before anybody fails of it.
    tell: OnceLock<Tell>,
}

struct Tell(Box<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

impl Condition {
    pub(crate) fn noticed_silence(&self) {
        *self.0.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that has been open for `age` is older, so that it may be silent too.
    fn was_silent_within(&self, age: Duration) -> bool {
        let noticed = *self.0.silent.lock().unwrap_or_else(PoisonError::into_inner);
        noticed.is_some_and(|noticed| noticed.elapsed() < age)
    }

    /// No connection is lent any more. The first reason stays.
    pub(crate) fn breaks(&self, why: &str) {
        self.0.broken.get_or_init(|| {
            if let Some(Tell(tell)) = self.0.tell.get() {
                tell(why);
            }
            why.to_owned()
        });
    }

    pub(crate) fn when_broken(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        let Tell(tell) = self.0.tell.get_or_init(|| Tell(Box::new(tell)));
        if let Some(why) = self.broken() {
            tell(why);
        }
    }

    pub(crate) fn broken(&self) -> Option<&str> {
        self.0.broken.get().map(String::as_str)
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.broken().map_or(Ok(()), |why| Err(StoreError::broken(why)))
    }
}

type Options<DB> = <<DB as sqlx::Database>::Connection as Connection>::Options;

/// Connections with the same options, at most so many at once. One that comes back is lent
/// again as it is: a question whether it lives would be one more round trip for each statement,
/// so only one that was not in use for a while is asked.
///
/// Whoever waits for one waits for a statement of each other caller, not for all that those want:
/// see [`Shares`].
pub struct Pool<DB: Driver> {
    lines: managed::Pool<Lines<DB>>,
    shares: Shares,
    /// How long a statement on them may take.
    limit: Duration,
}

/// How much of a pool is in use.
#[derive(Clone, Copy, Debug)]
pub struct PoolUse {
    pub lent: usize,
    pub idle: usize,
    pub waiting: usize,
}

/// Opens the connections of a pool, and says which of them are lent again.
pub(crate) struct Lines<DB: Driver> {
    options: Options<DB>,
    condition: Condition,
}

impl<DB: Driver> Pool<DB> {
    pub(crate) fn new(
        options: Options<DB>,
        most: usize,
        limit: Duration,
        condition: &Condition,
    ) -> Self {
        let condition = condition.clone();
        // The one that came back last: what it read lies in its caches.
        let config = PoolConfig { queue_mode: QueueMode::Lifo, ..PoolConfig::new(most) };
        let lines = managed::Pool::builder(Lines { options, condition }).config(config).build();
        let (lines, shares) = (lines.expect("no timeouts of its own"), Shares::new(most));
        Self { lines, shares, limit }
    }

    /// As many connections with other options.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with(&self, options: Options<DB>) -> Self {
        Self::new(options, self.most(), self.limit, &self.lines.manager().condition)
    }

    /// Takes a connection for as long as the result is held.
    pub(crate) async fn lend(&self) -> Result<Lent<DB>, StoreError> {
        self.lines.manager().condition.check()?;
        let lent = timeout(WAIT_TIMEOUT, async {
            let share = self.shares.take().await;
            Ok(self.take().await?.with(share))
        });
        lent.await.map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    /// The same while the database is being opened.
    pub(crate) async fn take(&self) -> Result<Lent<DB>, sqlx::Error> {
        let line = timeout(WAIT_TIMEOUT, Box::pin(self.lines.get())).await;
        match line.map_err(|_| sqlx::Error::PoolTimedOut)? {
            Ok(line) => Ok(Lent::pooled(line, self.limit, self.lines.manager().condition.clone())),
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Closed) => Err(sqlx::Error::PoolClosed),
            // Of hooks and timeouts, which it has none of.
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// How many connections are lent, how many are open and idle, and how many callers wait
    /// for one, be it in their own line.
    pub fn use_of(&self) -> PoolUse {
        let managed::Status { size, available, waiting, .. } = self.lines.status();
        let waiting = waiting + self.shares.waiting();
        PoolUse { lent: size.saturating_sub(available), idle: available, waiting }
    }

    /// How many connections it has at most.
    pub fn most(&self) -> usize {
        self.lines.status().max_size
    }

    /// Closes every connection that is not lent, and lends no more.
    pub(crate) async fn close(&self) {
        let idle = self.lines.retain(|_, _| false).removed;
        self.lines.close();
        for conn in idle {
            // What a server does not hear it finds out.
            timeout(IDLE, conn.close()).await.ok();
        }
    }
}

impl<DB: Driver> Clone for Pool<DB> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), shares: self.shares.clone(), limit: self.limit }
    }
}

impl<DB: Driver> fmt::Debug for Pool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.lines.status()).finish()
    }
}

/// A connection of a pool.
pub(crate) type Line<DB> = Object<Lines<DB>>;

impl<DB: Driver> Manager for Lines<DB> {
    type Type = DB::Connection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<DB::Connection, sqlx::Error> {
        let mut conn = self.options.connect().await?;
        DB::look(&mut conn).await?;
        Ok(conn)
    }

    async fn recycle(
        &self,
        conn: &mut DB::Connection,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        if self.condition.was_silent_within(metrics.age()) || metrics.age() > LIFE {
            return Err(RecycleError::message("too old"));
        }
        if metrics.last_used() < IDLE {
            return Ok(());
        }
        if let Ok(answer) = timeout(IDLE, DB::look(conn)).await {
            return Ok(answer?);
        }
        self.condition.noticed_silence();
        Err(RecycleError::message("silent"))
    }
}
