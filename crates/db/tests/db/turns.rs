//! Whose turn it is at the connections of a pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parlance_db::{Db, Migrations, test_on_each_db};
use parlance_types::Whose;
use tokio::task::JoinSet;

use crate::migrations::migrations;

test_on_each_db!(
    super::nothing() =>
        whoever_wants_much_is_waited_for_once,
);

fn nothing() -> Migrations {
    migrations("CREATE TABLE things (id INTEGER PRIMARY KEY)")
}

/// How many reads one of them wants at once.
const MANY: usize = 300;

fn whose(tenant: &str, caller: &str) -> Whose {
    Whose { tenant: tenant.into(), caller: caller.into() }
}

/// Some work for the database, so that those who come meanwhile wait.
async fn read(db: &Db) {
    let count = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                 SELECT COUNT(*) FROM n";
    let (count,): (i64,) = db.read(count).fetch_one().await.expect("read");
    assert_eq!(count, 2000);
}

/// The others come when all that one wants is under way already.
async fn whoever_wants_much_is_waited_for_once(db: Db) {
    let done = Arc::new(AtomicUsize::new(0));
    let mut reads = JoinSet::new();
    for _ in 0..MANY {
        let (db, done) = (db.clone(), Arc::clone(&done));
        reads.spawn(whose("acme", "ann").does(async move {
            read(&db).await;
            done.fetch_add(1, Ordering::Relaxed);
        }));
    }
    // Each has begun to wait before anybody else comes.
    tokio::task::yield_now().await;
    let most = db.read_connections();
    for other in [whose("zeta", "cas"), whose("acme", "bob")] {
        let before = done.load(Ordering::Relaxed);
        other.does(read(&db)).await;
        let passed = done.load(Ordering::Relaxed) - before;
        assert!(passed <= 4 * most, "waited for {passed} of somebody else");
    }
    assert!(done.load(Ordering::Relaxed) < MANY, "somebody waited for all of them");
    reads.join_all().await;
    assert_eq!(done.load(Ordering::Relaxed), MANY);
}
