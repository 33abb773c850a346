//! The connections of a database, which are lent and come back.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{
    self, Manager, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult,
};
use sqlx::{ConnectOptions as _, Connection};
use tokio::time::timeout;

use crate::WAIT_TIMEOUT;
use crate::conn::{Driver, Lent};

/// How long a connection may be idle and still count as alive.
const IDLE: Duration = Duration::from_secs(1);

/// After how long a connection is replaced: what its session has gathered goes with it.
const LIFE: Duration = Duration::from_mins(30);

/// When a connection was last found silent. Those that are older are not used again: they
/// lead to the same server, over the same network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence(Arc<Mutex<Option<Instant>>>);

impl Silence {
    pub(crate) fn noticed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that has been open for `age` is older, so that it may be silent too.
    fn is_within(&self, age: Duration) -> bool {
        let noticed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noticed.is_some_and(|noticed| noticed.elapsed() < age)
    }
}

type Options<DB> = <<DB as sqlx::Database>::Connection as Connection>::Options;

/// Connections with the same options, at most so many at once. One that comes back is lent
/// again as it is: a question whether it lives would be one more round trip for each statement,
/// so only one that was not in use for a while is asked.
pub struct Pool<DB: Driver> {
    lines: managed::Pool<Lines<DB>>,
    /// How long a statement on them may take.
    limit: Duration,
}

/// Opens the connections of a pool, and says which of them are lent again.
pub(crate) struct Lines<DB: Driver> {
    options: Options<DB>,
    silence: Option<Silence>,
}

impl<DB: Driver> Pool<DB> {
    pub(crate) fn new(
        options: Options<DB>,
        most: usize,
        limit: Duration,
        silence: Option<Silence>,
    ) -> Self {
        // The one that came back last: what it read lies in its caches.
        let config = PoolConfig { queue_mode: QueueMode::Lifo, ..PoolConfig::new(most) };
        let lines = managed::Pool::builder(Lines { options, silence }).config(config).build();
        Self { lines: lines.expect("no timeouts of its own"), limit }
    }

    /// As many connections with other options.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with(&self, options: Options<DB>) -> Self {
        Self::new(options, self.most(), self.limit, self.lines.manager().silence.clone())
    }

    /// Takes a connection for as long as the result is held.
    pub(crate) async fn lend(&self) -> Result<Lent<DB>, sqlx::Error> {
        let line = timeout(WAIT_TIMEOUT, Box::pin(self.lines.get())).await;
        match line.map_err(|_| sqlx::Error::PoolTimedOut)? {
            Ok(line) => Ok(Lent::pooled(line, self.limit, self.lines.manager().silence.clone())),
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Closed) => Err(sqlx::Error::PoolClosed),
            // Of hooks and timeouts, which it has none of.
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
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
        Self { lines: self.lines.clone(), limit: self.limit }
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
        self.options.connect().await
    }

    async fn recycle(
        &self,
        conn: &mut DB::Connection,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        let silent = self.silence.as_ref().is_some_and(|it| it.is_within(metrics.age()));
        if silent || metrics.age() > LIFE {
            return Err(RecycleError::message("too old"));
        }
        if metrics.last_used() < IDLE {
            return Ok(());
        }
        if let Ok(answer) = timeout(IDLE, conn.ping()).await {
            return Ok(answer?);
        }
        if let Some(silence) = &self.silence {
            silence.noticed();
        }
        Err(RecycleError::message("silent"))
    }
}
