//! Connections that a pool lends, and is certain to get back or to lose.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Error, Pool};
use tokio::time::timeout;

/// How long a connection that comes back may take to show that it lives.
const LIVES: Duration = Duration::from_secs(1);

/// A connection of a pool, for as long as this is held.
///
/// The pool asks each connection that comes back whether it lives, and by itself waits for
/// the answer without bound while the place of the connection stays taken: a server that
/// falls silent would so take the whole pool until TCP gives up, a quarter of an hour later.
#[derive(Debug)]
pub struct Lent<DB: Database>(PoolConnection<DB>);

/// Takes a connection of a pool.
pub async fn lend<DB: Database>(pool: &Pool<DB>) -> Result<Lent<DB>, Error> {
    // Boxed: it is large, and within the future of every read.
    Box::pin(pool.acquire()).await.map(Lent)
}

impl<DB: Database> Deref for Lent<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.0
    }
}

impl<DB: Database> DerefMut for Lent<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.0
    }
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        // Of what is not back in time the pool drops the connection and frees the place.
        tokio::spawn(timeout(LIVES, self.0.return_to_pool()));
    }
}
