//! Who gets the connections that read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_db::Db;
use parlance_db::testing::on_postgres;
use parlance_log::{Appended, StoredEvent};
use parlance_message::MIGRATIONS;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;
use sqlx::{ConnectOptions, Connection};

use crate::stream::harness::{Mood, Node, TestBus, event, hints_only, latest, tenant, until};

/// More than the pool has connections.
const ROOMS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[tokio::test]
async fn streams_that_read_leave_connections_to_those_who_call() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let Db::Postgres(postgres) = &db else { panic!("a Postgres") };
        let mut options = hints_only();
        options.ring.events = 1;
        let node = Node::start(&db, TestBus::new(Mood::Reliable), options).await;
        let mut rooms = Vec::new();
        for room in ROOMS {
            rooms.push(node.room(room, &["ann"]).await);
        }
        let mut reader = node.subscribe("ann", latest(&ROOMS)).await;
        let mut caught_up = 0;
        while caught_up < ROOMS.len() {
            caught_up += usize::from(matches!(reader.next().await, Frame::CaughtUp(_)));
        }

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
        let payload = event(pb::Effects::default(), None);
        let event = |seq| StoredEvent { seq, time: 0, payload: payload.clone() };
        let batch = rooms.iter().map(|room| Appended {
            tenant_id: tenant(),
            log_id: room.log_id,
            room_id: room.id.clone(),
            epoch: epoch.clone(),
            events: (3..=5).map(event).collect(),
            users: Vec::new(),
        });
        node.hub.publisher()(batch.collect());
        let wanted = || node.hub.counters().blocks_read.load(Ordering::Relaxed);
        until("each room reads a block", || wanted() == 8).await;
        let view = node.store.view(rooms[0].log_id, None);
        let view = tokio::time::timeout(Duration::from_secs(4), view).await;
        assert!(view.expect("no waiting for the streams").expect("a view").is_some());
        reading.abort();
        conn.close().await.expect("unlocked");
    })
    .await;
}
