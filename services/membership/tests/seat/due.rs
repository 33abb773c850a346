//! Live rooms that nobody came back to in time.

use parlance_db::Db;
use parlance_outbox::testing::Health;
use parlance_proto::membership::v1 as pb;
use parlance_types::LogId;

use super::rooms::{Plan, SECOND, end, enter, held, leave, live, new_log, session, story};
use crate::harness::{World, eventually};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_room_that_nobody_came_back_to_ends_in_its_time,
        an_entry_before_the_end_keeps_the_room,
        a_room_that_nobody_entered_waits_for_the_first_one,
        a_time_of_a_clock_that_was_wrong_is_over,
        who_asks_is_told_what_ended_until_that_is_acknowledged,
        many_due_rooms_end_beside_one_whose_log_is_away,
);

/// Lets the service do what it does by itself, until `until` holds.
async fn run(world: &World, db: &Db, until: impl AsyncFn() -> bool) {
    let beside = world.replica(db.clone());
    beside.service.run();
    eventually(|| async { until().await }).await;
    beside.env.tasks.close().await;
    assert_eq!(beside.env.tasks.broken_by(), None);
}

/// B-023.
async fn a_room_that_nobody_came_back_to_ends_in_its_time(db: Db) {
    let world = World::new(db.clone());
    let den = live(&world, "den", 90).await;
    enter(&world, "ann", den, "a").await;
    end(&world, vec![held("ann", "a", &session("a"))]).await;
    world.clock.advance(89 * SECOND);
    world.service.end_due().await.expect("ended");
    assert_eq!(story(&world, den)[2..], ["ann left: LEASE_ENDED"]);
    world.clock.advance(SECOND);
    world.service.end_due().await.expect("ended");
    assert_eq!(story(&world, den)[2..], ["ann left: LEASE_ENDED", "closed"]);
    live(&world, "den", 0).await;
}

async fn an_entry_before_the_end_keeps_the_room(db: Db) {
    let world = World::new(db.clone());
    let den = live(&world, "den", 90).await;
    enter(&world, "ann", den, "a").await;
    leave(&world, "ann", den, "a").await;
    world.clock.advance(80 * SECOND);
    enter(&world, "bob", den, "b").await;
    world.clock.advance(80 * SECOND);
    world.service.end_due().await.expect("ended");
    leave(&world, "bob", den, "b").await;
    world.clock.advance(80 * SECOND);
    world.service.end_due().await.expect("ended");
    let told = ["ann left: LEFT", "bob joined", "bob left: LEFT"];
    assert_eq!(story(&world, den)[2..], told);
    world.clock.advance(10 * SECOND);
    world.service.end_due().await.expect("ended");
    assert_eq!(story(&world, den)[5..], ["closed"]);
}

async fn a_room_that_nobody_entered_waits_for_the_first_one(db: Db) {
    let world = World::new(db.clone());
    let (den, tea) = (live(&world, "den", 0).await, live(&world, "tea", 0).await);
    enter(&world, "ann", tea, "a").await;
    world.clock.advance(299 * SECOND);
    world.service.end_due().await.expect("ended");
    assert_eq!(story(&world, den), ["created"]);
    world.clock.advance(SECOND);
    world.service.end_due().await.expect("ended");
    assert_eq!(story(&world, den), ["created", "closed"]);
    assert_eq!(story(&world, tea), ["created", "ann joined"]);
}

async fn a_time_of_a_clock_that_was_wrong_is_over(db: Db) {
    let world = World::new(db.clone());
    let den = live(&world, "den", 90).await;
    let tea = Plan { delay: 3 * 3600, ..Plan::default() }.open(&world, "tea").await;
    world.clock.advance(4 * 3600 * SECOND);
    for (room, device) in [(den, "a"), (tea, "b")] {
        enter(&world, "ann", room, device).await;
        leave(&world, "ann", room, device).await;
    }
    // The clock that was four hours ahead is right again.
    world.clock.advance(-4 * 3600 * SECOND);
    world.service.end_due().await.expect("ended");
    assert_eq!(story(&world, tea).last().expect("an event"), "closed");
    assert_eq!(story(&world, den).last().expect("an event"), "closed");
}

async fn told(world: &World) -> Vec<LogId> {
    let mut seats = world.room_service("another", None).seats;
    let ended = seats.list_ended_rosters(pb::ListEndedRostersRequest {}).await.expect("a list");
    let ended = ended.into_inner().log_ids.into_iter();
    let mut ended: Vec<LogId> = ended.map(|log_id| log_id.parse().expect("a log")).collect();
    ended.sort_unstable();
    ended
}

async fn who_asks_is_told_what_ended_until_that_is_acknowledged(db: Db) {
    let world = World::new(db.clone());
    let (den, tea) = (live(&world, "den", 0).await, live(&world, "tea", 60).await);
    for room in [den, tea] {
        enter(&world, "ann", room, "a").await;
    }
    let deleted = live(&world, "deleted", 0).await;
    crate::harness::close(&world, deleted).await;
    assert!(told(&world).await.is_empty());
    leave(&world, "ann", den, "a").await;
    leave(&world, "ann", tea, "a").await;
    assert_eq!(told(&world).await, [den]);
    world.clock.advance(60 * SECOND);
    world.logs.set_health(Health::Down);
    run(&world, &db, async || {
        let select = "SELECT closed FROM rosters WHERE log_id = $1";
        let (closed,): (bool,) = db.read(select).bind(tea.0).fetch_one().await.expect("a roster");
        closed
    })
    .await;
    // Not before its log knows.
    assert_eq!(told(&world).await, [den]);
    world.logs.set_health(Health::Up);
    assert_eq!(told(&world).await, [den, tea]);
    let mut seats = world.room_service("another", None).seats;
    let known = |logs: &[LogId]| pb::AcknowledgeEndedRostersRequest {
        log_ids: logs.iter().map(|log| log.0.to_string()).collect(),
    };
    for _ in 0..2 {
        seats.acknowledge_ended_rosters(known(&[den])).await.expect("noted");
        assert_eq!(told(&world).await, [tea]);
    }
    seats.acknowledge_ended_rosters(known(&[tea, new_log()])).await.expect("noted");
    assert!(told(&world).await.is_empty());
}

async fn many_due_rooms_end_beside_one_whose_log_is_away(db: Db) {
    let world = World::new(db.clone());
    let mut rooms = Vec::new();
    for n in 0..50 {
        rooms.push(live(&world, &format!("room {n}"), 0).await);
    }
    world.logs.hang_on(rooms[7]);
    world.clock.advance(300 * SECOND);
    let away = rooms.remove(7);
    run(&world, &db, async || rooms.iter().all(|room| world.logs.log(*room).closed)).await;
    assert!(!world.logs.log(away).closed);
}
