//! A Postgres whose established connections fall silent is left behind, in calls and by
//! what runs beside them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parlance_db::testing::on_linked_postgres;
use parlance_room::MIGRATIONS;
use parlance_rpc::testing::eventually;
use tokio::time::timeout;

use crate::harness::{Harness, create, get, group};

#[tokio::test]
async fn calls_leave_a_silent_postgres_behind() {
    on_linked_postgres(MIGRATIONS, |db, link| async move {
        let suite = Harness::new(db).await;
        create(&mut suite.user("ann"), group("g", &[])).await;
        let reads = || async { suite.user("ann").rooms.get_room(get("g")).await.is_ok() };
        link.is_left_behind(reads).await;

        let made = AtomicU32::new(0);
        let creates = || async {
            let room = group(&format!("room {}", made.fetch_add(1, Ordering::Relaxed)), &[]);
            suite.user("ann").rooms.create_room(room).await.is_ok()
        };
        link.is_left_behind(creates).await;
    })
    .await;
}

#[tokio::test]
async fn the_janitor_leaves_a_silent_postgres_behind() {
    on_linked_postgres(MIGRATIONS, |db, link| async move {
        let suite = Harness::new(db).await;
        suite.run();
        let done = || suite.task("room janitor").map_or(0, |run| run.count - run.failures);
        eventually(|| async { done() > 0 }).await;
        link.silence();
        let before = done();
        let again = eventually(|| async { done() > before });
        timeout(Duration::from_secs(5), again).await.expect("in 5 s");
        suite.stop().await;
    })
    .await;
}
