//! What becomes of the logs of deleted rooms.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_log::{Applied, Error, Fact};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_rpc::Reason;
use parlance_rpc::testing::eventually;
use parlance_types::{LogId, TenantId};
use uuid::Uuid;

use super::clear_for_all::{page, prune, rows};
use crate::harness::{TENANT, World, delete, refused, saying, send};
use crate::reaction::reactions;
use crate::rooms::{Room, facts, group, plan, updated};

test_on_each_db!(parlance_message::MIGRATIONS =>
    the_log_of_a_deleted_room_goes_after_thirty_days,
    a_room_that_keeps_events_for_a_time_keeps_its_log_no_longer,
    the_log_of_a_live_room_goes_within_minutes,
    facts_that_come_late_are_counted_and_make_no_log,
    a_room_id_that_lives_again_is_not_touched,
    replicas_purge_at_once_while_facts_and_new_lives_come,
);

const DAY: i64 = 24 * 3600 * 1_000_000;

/// Everything that is stored of a log.
const TABLES: [&str; 9] = [
    "heads",
    "events",
    "members",
    "pins",
    "reactions",
    "gone",
    "log_epochs",
    "prunings",
    "room_logs",
];

async fn left(world: &World, log_id: LogId) -> Vec<(&'static str, i64)> {
    let mut left = Vec::new();
    for table in TABLES {
        left.push((table, rows(world, table, log_id).await));
    }
    left.retain(|(_, rows)| *rows > 0);
    left
}

/// The room was deleted, and its memberships have ended.
async fn delete_room(world: &World, room: &Room) {
    room.close().await;
    eventually(|| async {
        world.service.store().empty_closed().await.expect("emptied");
        rows(world, "members", room.log_id).await == 0
    })
    .await;
}

async fn the_log_of_a_deleted_room_goes_after_thirty_days(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").owned(&["ann", "bob"]).make(&world).await;
    let other = group(&world, "other", &["ann"]).await;
    let mut ann = world.user("ann");
    for n in 0..3 {
        let message_id = send(&mut ann, "lobby", &n.to_string()).await.message_id;
        let mut pins = PinServiceClient::new(ann.transport.clone());
        reactions::add(&ann, &message_id, "tea").await.expect("added");
        pins.pin_message(pb::PinMessageRequest { message_id }).await.expect("pinned");
    }
    let request_id = "again".to_owned();
    let request = pb::SendMessageRequest { request_id, ..saying("lobby", "hello") };
    let sent = ann.messages.send_message(request.clone()).await.expect("sent").into_inner();
    delete(&mut ann, &sent.message_id).await;
    send(&mut ann, "other", "elsewhere").await;
    delete_room(&world, &room).await;
    for days in [0, 15, 14] {
        world.clock.advance(days * DAY);
        prune(&world).await;
        assert_eq!(left(&world, room.log_id).await.len(), 8, "all but the members");
        let again = ann.messages.send_message(request.clone()).await.expect("a repeat");
        assert_eq!(again.into_inner(), sent);
    }
    world.clock.advance(2 * DAY);
    prune(&world).await;
    assert_eq!(left(&world, room.log_id).await, vec![]);
    refused(ann.messages.send_message(request).await, Reason::RoomNotFound);
    // Nothing else is touched.
    assert_eq!(page(&mut ann, "other").await, ["elsewhere"]);
    assert_eq!(rows(&world, "events", other.log_id).await, 3);
    assert_eq!(rows(&world, "purged", room.log_id).await, 1);
    // Whoever looks which facts the logs have does not take it for lost.
    let facts = world.service.store().facts(LogId(Uuid::nil()), 10).await.expect("facts");
    let of = |log_id| facts.iter().find(|facts| facts.log_id == log_id).map(|it| it.membership);
    assert_eq!((of(room.log_id), of(other.log_id)), (Some(2), Some(1)));
    assert!(facts.is_sorted_by_key(|facts| facts.log_id));
}

async fn a_room_that_keeps_events_for_a_time_keeps_its_log_no_longer(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let retention = Some(prost_types::Duration { seconds: 24 * 3600, nanos: 0 });
    room.set_rules(pb::LogRules { retention, ..pb::LogRules::default() }).await;
    delete_room(&world, &room).await;
    prune(&world).await;
    assert!(rows(&world, "events", room.log_id).await > 0);
    world.clock.advance(DAY + 1);
    prune(&world).await;
    assert_eq!(left(&world, room.log_id).await, vec![]);
}

async fn the_log_of_a_live_room_goes_within_minutes(db: Db) {
    let world = World::open(db).await;
    let room = plan("stage").kind(pb::RoomKind::Live).members(&["ann"]).make(&world).await;
    send(&mut world.user("ann"), "stage", "hello").await;
    delete_room(&world, &room).await;
    prune(&world).await;
    assert!(rows(&world, "events", room.log_id).await > 0);
    world.clock.advance(5 * 60 * 1_000_000);
    prune(&world).await;
    assert_eq!(left(&world, room.log_id).await, vec![]);
}

async fn facts_that_come_late_are_counted_and_make_no_log(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    delete_room(&world, &room).await;
    world.clock.advance(31 * DAY);
    prune(&world).await;
    assert_eq!(left(&world, room.log_id).await, vec![]);
    // Of two it had both.
    let applied = |applied| Applied { applied, head: 0, closed: true };
    assert_eq!(apply(&world, &room, 1..=2).await.expect("counted"), applied(2));
    assert_eq!(apply(&world, &room, 2..=4).await.expect("counted"), applied(4));
    apply(&world, &room, 6..=6).await.expect_err("a gap");
    assert_eq!(left(&world, room.log_id).await, vec![]);
}

/// Applies facts of these versions.
async fn apply(
    world: &World,
    room: &Room,
    versions: std::ops::RangeInclusive<i64>,
) -> Result<Applied, Error> {
    let fact = |version| Fact {
        version,
        events: vec![updated(pb::Effects::default())],
        ..Fact::default()
    };
    let facts = facts(TenantId::new(TENANT), room.log_id, versions.map(fact).collect());
    world.service.store().apply(facts).await
}

async fn a_room_id_that_lives_again_is_not_touched(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    delete_room(&world, &room).await;
    let again = group(&world, "lobby", &["ann"]).await;
    send(&mut world.user("ann"), "lobby", "hello").await;
    world.clock.advance(31 * DAY);
    prune(&world).await;
    assert_eq!(left(&world, room.log_id).await, vec![]);
    assert_eq!(rows(&world, "events", again.log_id).await, 3);
    assert_eq!(page(&mut world.user("ann"), "lobby").await, ["hello"]);
}

async fn replicas_purge_at_once_while_facts_and_new_lives_come(db: Db) {
    let (world, other) = (World::open(db.clone()).await, World::open(db).await);
    let mut old = Vec::new();
    for n in 0..20 {
        let room = group(&world, &format!("room {n}"), &["ann"]).await;
        delete_room(&world, &room).await;
        old.push(room);
    }
    for world in [&world, &other] {
        world.clock.advance(31 * DAY);
    }
    let late = join_all(old.iter().map(|room| apply(&other, room, 3..=3)));
    let lives = join_all(old.iter().map(|room| group(&world, room.id.as_str(), &["ann"])));
    let ((), (), late, lives) = tokio::join!(prune(&world), prune(&other), late, lives);
    for applied in late {
        assert_eq!(applied.expect("counted").applied, 3);
    }
    prune(&world).await;
    let facts = world.service.store().facts(LogId(Uuid::nil()), 100).await.expect("facts");
    for (old, new) in old.iter().zip(lives) {
        assert_eq!(left(&world, old.log_id).await, vec![]);
        let [of_old] = facts.iter().filter(|it| it.log_id == old.log_id).collect::<Vec<_>>()[..]
        else {
            panic!("a log has one number of facts")
        };
        assert_eq!(of_old.membership, 3);
        send(&mut world.user("ann"), old.id.as_str(), "hello").await;
        assert_eq!(rows(&world, "events", new.log_id).await, 3);
    }
}
