//! A table that is locked, as it is while an index is made.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use parlance_db::testing::{TableLock, on_postgres};
use parlance_room::MIGRATIONS;
use tokio::sync::Mutex;

use crate::harness::{Harness, create, eventually, get, group};

#[tokio::test]
async fn creations_that_wait_for_the_rooms_hold_up_nobody_who_reads_them() {
    on_postgres(MIGRATIONS, async |db| {
        let suite = Harness::new(db.clone()).await;
        create(&mut suite.user("ann"), group("tea", &[])).await;
        let lock = Mutex::new(TableLock::take(&db, "rooms").await);
        let ended = AtomicUsize::new(0);
        let creations = join_all((0..24).map(|room| {
            let (ended, mut ann) = (&ended, suite.user("ann"));
            async move {
                let _late = ann.rooms.create_room(group(&format!("room {room}"), &[])).await;
                ended.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let reads = async {
            eventually(|| async { lock.lock().await.holds_up_every_writer().await }).await;
            for _ in 0..24 {
                suite.user("ann").rooms.get_room(get("tea")).await.expect("the room");
            }
            assert_eq!(ended.load(Ordering::Relaxed), 0, "no creation has ended yet");
            drop(lock);
        };
        tokio::join!(creations, reads);
    })
    .await;
}
