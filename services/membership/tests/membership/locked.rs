//! A table that is locked, as it is while an index is made.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use parlance_db::testing::{TableLock, on_postgres};
use parlance_membership::MIGRATIONS;

use crate::harness::{Owner, World, eventually, join};

#[tokio::test]
async fn changes_that_wait_for_the_members_hold_up_nobody_who_reads_them() {
    on_postgres(MIGRATIONS, async |db| {
        let world = World::new(db.clone());
        let rooms: Vec<_> = (0..24).map(|room| format!("room {room}")).collect();
        for room in &rooms {
            world.channel(room, &[("ann", Owner)]).await;
        }
        world.know("acme", &["bob"]).await;
        let lock = tokio::sync::Mutex::new(TableLock::take(&db, "members").await);
        let ended = AtomicUsize::new(0);
        let joins = join_all(rooms.iter().map(|room| async {
            let _late = world.user("bob").members.join_room(join(room)).await;
            ended.fetch_add(1, Ordering::Relaxed);
        }));
        let reads = async {
            eventually(|| async { lock.lock().await.holds_up_every_writer().await }).await;
            for room in &rooms {
                assert_eq!(world.roles(room).await, [("ann".to_owned(), Owner)]);
            }
            assert_eq!(ended.load(Ordering::Relaxed), 0, "no change has ended yet");
            drop(lock);
        };
        tokio::join!(joins, reads);
    })
    .await;
}
