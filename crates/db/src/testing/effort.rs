//! What a database does for a piece of work, in numbers that are the same in every run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::sqlite::SqlitePool;
use sqlx::{Connection, PgConnection};

use super::TestSchema;
use crate::Db;

/// Counts what a database does: SQLite the steps of its virtual machine, Postgres the pages
/// that it touches, in memory or not.
#[derive(Clone, Debug)]
pub enum Effort {
    Steps(Arc<AtomicU64>),
    /// Of a database of the test's own.
    Pages {
        url: String,
        database: String,
    },
}

impl Effort {
    /// Counts from now on. On Postgres the database must be the test's own; see
    /// [`on_own_postgres`](super::on_own_postgres).
    pub async fn of(db: &Db) -> Self {
        match db {
            Db::Sqlite(db) => {
                let steps = Arc::default();
                count(&db.read, &steps).await;
                count(&db.write, &steps).await;
                Self::Steps(steps)
            }
            Db::Postgres(db) => {
                let url = TestSchema::new().url;
                let database = db.options.get_database().expect("a database").to_owned();
                Self::Pages { url, database }
            }
        }
    }

    /// What `work` takes.
    pub async fn taken_by<T>(&self, work: impl Future<Output = T>) -> (T, u64) {
        let before = self.so_far().await;
        let done = work.await;
        (done, self.so_far().await - before)
    }

    async fn so_far(&self) -> u64 {
        match self {
            Self::Steps(steps) => steps.load(Ordering::Relaxed),
            Self::Pages { url, database } => {
                // From another database, so that it does not count itself.
                let mut admin = PgConnection::connect(url).await.expect("connect to Postgres");
                let pages = sqlx::query_scalar(
                    "SELECT COALESCE(SUM(s.shared_blks_hit + s.shared_blks_read), 0)::BIGINT
                       FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
                      WHERE d.datname = $1",
                );
                let pages: i64 = pages.bind(database).fetch_one(&mut admin).await.expect("a sum");
                admin.close().await.expect("closed");
                u64::try_from(pages).expect("not negative")
            }
        }
    }
}

async fn count(pool: &SqlitePool, steps: &Arc<AtomicU64>) {
    let mut held = Vec::new();
    // All are held at once, so that none is met twice.
    for _ in 0..pool.options().get_max_connections() {
        let mut conn = pool.acquire().await.expect("a connection");
        let steps = Arc::clone(steps);
        let count = move || steps.fetch_add(1, Ordering::Relaxed) < u64::MAX;
        conn.lock_handle().await.expect("a handle").set_progress_handler(1, count);
        held.push(conn);
    }
}
