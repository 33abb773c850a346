//! What a database does for a piece of work, in numbers that are the same in every run.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{Connection, PgConnection, Sqlite};
use tokio::sync::Mutex;

use super::TestSchema;
use crate::{AssertSqlSafe, Db, Pool};

/// How often each thing is done, at least and at most. The least counts: what a database does
/// on the side, such as looking for free space, only adds to it.
const RUNS: RangeInclusive<usize> = 2..=5;

/// Counts what a database does: SQLite the steps of its virtual machine, Postgres the pages
/// that it touches, in memory or not.
#[derive(Clone, Debug)]
pub enum Effort {
    Steps(Arc<AtomicU64>),
    /// Of a database of the test's own, asked from another one, so that the question does not
    /// count itself. One connection for all questions: to make one is far more work than what
    /// is measured.
    Pages {
        admin: Arc<Mutex<PgConnection>>,
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
                let admin = PgConnection::connect(&TestSchema::new().url).await;
                let admin = Arc::new(Mutex::new(admin.expect("connect to Postgres")));
                let database = db.options.get_database().expect("a database").to_owned();
                Self::Pages { admin, database }
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
            Self::Pages { admin, database } => {
                let pages = sqlx::query_scalar(
                    "SELECT COALESCE(SUM(s.shared_blks_hit + s.shared_blks_read), 0)::BIGINT
                       FROM pg_stat_statements(FALSE) s JOIN pg_database d ON d.oid = s.dbid
                      WHERE d.datname = $1",
                );
                let mut admin = admin.lock().await;
                let pages: i64 = pages.bind(database).fetch_one(&mut *admin).await.expect("a sum");
                u64::try_from(pages).expect("not negative")
            }
        }
    }
}

/// The tables of a test, without those of Postgres itself, of which there are five times as many.
struct Tables(Option<String>);

impl Tables {
    async fn of(db: &Db) -> Self {
        if matches!(db, Db::Sqlite(_)) {
            return Self(None);
        }
        let list = "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables
                     WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        let (list,): (String,) = db.read(list).fetch_one().await.expect("tables");
        Self(Some(format!("VACUUM {list}")))
    }

    /// As autovacuum does it in time: what was written over is not walked through.
    async fn vacuum(&self, db: &Db) {
        if let Self(Some(vacuum)) = self {
            db.write(AssertSqlSafe(vacuum.clone())).execute().await.expect("vacuumed");
        }
    }
}

/// What is done in one of two places of a test's world.
pub type Work<W, P> = for<'a> fn(&'a W, &'a P) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The work of [`costs_the_same`], each with its name.
#[macro_export]
macro_rules! work {
    ($($what:literal: |$world:pat_param, $place:pat_param| $work:expr,)+) => {
        &[$(($what, |$world, $place| Box::pin(async move { let _ = $work; }))),+]
    };
}

/// Does everything in each of two places, one beside little and one beside a hundred times as
/// much; fails where that costs more in the second.
pub async fn costs_the_same<W, P>(db: &Db, world: &W, places: &[P], work: &[(&str, Work<W, P>)]) {
    let [little, much] = places else { panic!("two places") };
    let effort = Effort::of(db).await;
    // What grows with a logarithm: indexes get deeper, and deletions have more levels.
    let more = if matches!(effort, Effort::Steps(_)) { 200 } else { 40 };
    let tables = Tables::of(db).await;
    let mut grown = Vec::new();
    for (what, work) in work {
        tables.vacuum(db).await;
        let (mut costs, mut runs) = ([u64::MAX; 2], 0);
        let is_more = |[little, much]: [u64; 2]| much > little + little / 10 + more;
        while runs < *RUNS.start() || runs < *RUNS.end() && is_more(costs) {
            for (place, least) in [little, much].into_iter().zip(&mut costs) {
                *least = (*least).min(effort.taken_by(work(world, place)).await.1);
            }
            runs += 1;
        }
        if is_more(costs) {
            grown.push(format!("{what}: {} instead of {}", costs[1], costs[0]));
        }
    }
    assert!(grown.is_empty(), "{grown:#?}");
}

/// Does the same work beside little and, once `grow` has made so many more of what lies beside
/// it, again; fails where that costs more. For work that is about everything there is.
pub async fn stays_as_cheap(
    db: &Db,
    mut work: impl AsyncFnMut(),
    grow: impl AsyncFn(i64),
    sizes: [i64; 2],
) {
    let effort = Effort::of(db).await;
    let more = if matches!(effort, Effort::Steps(_)) { 200 } else { 40 };
    let tables = Tables::of(db).await;
    let mut costs = Vec::new();
    for size in sizes {
        grow(size).await;
        tables.vacuum(db).await;
        let mut least = u64::MAX;
        for _ in 0..*RUNS.end() {
            least = least.min(effort.taken_by(work()).await.1);
        }
        costs.push(least);
    }
    assert!(costs[1] <= costs[0] + costs[0] / 10 + more, "{costs:?}");
}

async fn count(pool: &Pool<Sqlite>, steps: &Arc<AtomicU64>) {
    let mut held = Vec::new();
    // All are held at once, so that none is met twice.
    for _ in 0..pool.most() {
        let mut conn = pool.lend().await.expect("a connection");
        let steps = Arc::clone(steps);
        let count = move || steps.fetch_add(1, Ordering::Relaxed) < u64::MAX;
        conn.lock_handle().await.expect("a handle").set_progress_handler(1, count);
        held.push(conn);
    }
}
