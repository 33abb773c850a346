//! Whether a process is ready: its databases are there, and whole.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parlance_db::{Db, Ping};
use parlance_rpc::{Health, Tasks};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How often databases are asked whether they are there, and how long they may
/// take to answer.
const EVERY: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(3);

/// After so many questions without an answer a process is not ready. One may be lost
/// where everything is slow for a moment, and all replicas would go at once.
const MISSES: usize = 2;

/// Asks the databases of a process. Other services may be away: their callers are
/// told so one by one.
#[derive(Debug)]
pub(crate) struct Readiness {
    pings: Vec<Ping>,
    /// In a row.
    misses: usize,
    /// As it was told last.
    ready: bool,
}

impl Readiness {
    pub(crate) fn of(databases: &[Db]) -> Self {
        Self { pings: databases.iter().map(Ping::of).collect(), misses: 0, ready: true }
    }

    /// Tells from now on whether the process is ready; that it is was told.
    pub(crate) fn tell(self, health: Health, tasks: &Tasks) {
        let this = Arc::new(Mutex::new(self));
        tasks.every("readiness", EVERY, Arc::default(), move || {
            let (this, health) = (Arc::clone(&this), health.clone());
            async move { this.lock().await.look(&health).await }
        });
    }

    async fn look(&mut self, health: &Health) -> Result<(), String> {
        let ready = self.ask().await;
        let broken = self.pings.iter().find_map(Ping::broken);
        if ready != self.ready {
            // One that is broken was told of when it was noticed.
            if broken.is_none() {
                tracing::warn!(ready, "the database came or went");
            }
            health.set_all(ready).await;
            self.ready = ready;
        }
        match broken {
            Some(broken) => Err(broken.to_owned()),
            None if self.misses > 0 => Err("a database does not answer".to_owned()),
            None => Ok(()),
        }
    }

    /// Asks once. Whether the process is ready.
    async fn ask(&mut self) -> bool {
        let asked = self.pings.iter_mut().map(|ping| timeout(WITHIN, ping.ask()));
        let mut missed = false;
        for answer in join_all(asked).await {
            match answer {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => tracing::debug!(%error, "a database does not answer"),
                Err(_) => tracing::debug!("a database does not answer in time"),
            }
            missed = true;
        }
        self.misses = if missed { self.misses + 1 } else { 0 };
        let Some(broken) = self.pings.iter().find_map(Ping::broken).map(ToOwned::to_owned) else {
            return self.misses < MISSES;
        };
        // They are put back together, so nothing is worth writing to the others any more.
        for ping in &self.pings {
            ping.breaks(&broken);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use parlance_db::testing::TestDatabase;
    use parlance_db::{Location, testing};
    use parlance_presence::MIGRATIONS;

    use super::*;

    #[tokio::test]
    async fn a_process_that_uses_all_of_its_connections_is_ready() {
        testing::on_postgres(MIGRATIONS, async |db| {
            let mut used = Vec::new();
            for _ in 0..db.read_connections() {
                used.push(db.reader().await.expect("a connection"));
            }
            let mut readiness = Readiness::of(std::slice::from_ref(&db));
            for _ in 0..=MISSES {
                assert!(readiness.ask().await);
            }
            drop(used);
        })
        .await;
    }

    #[tokio::test]
    async fn a_process_is_not_ready_without_its_database_and_is_once_it_is_back() {
        let database = TestDatabase::create().await;
        let (url, schema) = (database.url(), "presence".to_owned());
        let location = Location::Postgres { url, schema, connections: 2 };
        let db = Db::open(&location, MIGRATIONS).await.expect("open Postgres");
        let mut readiness = Readiness::of(std::slice::from_ref(&db));
        assert!(readiness.ask().await);
        database.go().await;
        assert!(readiness.ask().await, "one miss is none");
        for _ in 0..3 {
            assert!(!readiness.ask().await);
        }
        database.come().await;
        assert!(readiness.ask().await);
        assert!(readiness.ask().await, "and misses are counted anew");
        db.close().await;
        database.go().await;
    }
}
