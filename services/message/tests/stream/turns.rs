//! Who gets the connections that read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_db::Db;
use parlance_db::testing::on_postgres;
use parlance_message::MIGRATIONS;
use sqlx::{ConnectOptions, Connection};

use parlance_rpc::testing::eventually;

use crate::rooms::group;
use crate::stream::harness::{appended, hints_only, latest, node_with};

/// More than the pool has connections.
const ROOMS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[tokio::test]
async fn streams_that_read_leave_connections_to_those_who_call() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let Db::Postgres(postgres) = &db else { panic!("a Postgres") };
        let mut options = hints_only();
        options.ring.events = 1;
        let node = node_with(&db, options).await;
        let mut rooms = Vec::new();
        for room in ROOMS {
            rooms.push(group(&node, room, &["ann"]).await);
        }
        let mut reader = node.subscribe("ann", latest(&ROOMS)).await;
        reader.all_caught_up(ROOMS.len()).await;

        // A stream pulls as it is read.
        let reading = tokio::spawn(async move {
            loop {
                reader.next().await;
            }
        });

        // Whoever reads events waits; each room has more of them than its ring holds.
        let mut conn = postgres.options.connect().await.expect("a connection");
        let lock = "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(lock).execute(&mut conn).await.expect("locked");
        let epoch = node.store.epoch().await.expect("an epoch");
        let batch = rooms.iter().map(|room| appended(room, &epoch, 3..=5));
        node.hub.publisher()(batch.collect());
        let wanted = || node.hub.counters().blocks_read.load(Ordering::Relaxed);
        eventually(|| async { wanted() == 8 }).await;
        let view = node.store.view(rooms[0].log_id, None);
        let view = tokio::time::timeout(Duration::from_secs(4), view).await;
        assert!(view.expect("no waiting for the streams").expect("a view").is_some());
        reading.abort();
        conn.close().await.expect("unlocked");
    })
    .await;
}
