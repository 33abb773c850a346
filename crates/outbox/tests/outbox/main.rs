//! The outbox on both databases, against logs in memory.

mod harness;

use std::sync::atomic::Ordering;
use std::time::Duration;

use harness::{Source, member_joins};
use parlance_db::Db;
use parlance_db::testing::{Link, TestSchema};
use parlance_outbox::testing::Health;
use parlance_outbox::{Backlog, DriveError};
use parlance_proto::message::v1::{FactSource, RoomKind};
use parlance_rpc::{Reason, Tasks};

const SOON: Duration = Duration::from_secs(5);

parlance_db::test_on_each_db!(
    parlance_outbox::MIGRATIONS =>
        facts_reach_the_log_in_order_and_in_one_call,
        nothing_pending_means_no_call,
        a_fact_that_is_rolled_back_is_never_sent,
        many_bytes_are_split_into_calls_that_fit,
        an_answer_that_is_lost_does_not_repeat_the_events,
        a_restored_log_gets_again_what_it_lost,
        a_lost_log_is_made_again,
        a_restored_source_goes_on_behind_what_the_log_has,
        an_outage_is_told_and_the_relay_finishes,
        a_log_in_trouble_does_not_delay_the_others,
        what_waits_gets_old_and_what_is_home_does_not,
        the_relay_takes_on_more_logs_than_it_drives_at_once,
        drives_at_once_apply_each_fact_once,
        a_drive_ends_with_its_deadline,
        facts_for_a_log_that_is_not_there_are_refused,
        registering_again_has_no_effect,
);

async fn facts_reach_the_log_in_order_and_in_one_call(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    for user in ["ann", "bob", "cleo"] {
        source.enqueue(log, &[member_joins(user)]).await;
    }
    let driven = source.outbox.drive(log, SOON).await.expect("driven");
    assert_eq!((driven.applied, driven.head, driven.closed), (3, 3, false));
    assert_eq!(source.logs.calls(), [(log, vec![1, 2, 3])]);
    assert_eq!(source.users(log), ["ann", "bob", "cleo"]);
    let identity = source.logs.log(log).identity;
    assert_eq!((identity.room_id.as_str(), identity.kind()), ("den", RoomKind::Group));
}

async fn what_waits_gets_old_and_what_is_home_does_not(db: Db) {
    let source = Source::new(db);
    let oldest = async || source.outbox.oldest().await.expect("an age");
    let (old, new) = (source.register("old").await, source.register("new").await);
    assert_eq!(oldest().await, Duration::ZERO);
    source.enqueue(old, &[member_joins("ann")]).await;
    source.enqueue(old, &[member_joins("bob")]).await;
    let begun = std::time::Instant::now();
    while oldest().await < Duration::from_millis(300) {
        assert!(begun.elapsed() < SOON, "it does not get old");
    }
    let before_new = std::time::Instant::now();
    source.enqueue(new, &[member_joins("cleo")]).await;
    assert!(oldest().await >= Duration::from_millis(300), "the oldest counts");
    source.outbox.drive(old, SOON).await.expect("driven");
    let left = oldest().await;
    assert!(left <= before_new.elapsed() + Duration::from_millis(10), "{left:?}");
    source.outbox.drive(new, SOON).await.expect("driven");
    assert_eq!(oldest().await, Duration::ZERO);
}

async fn nothing_pending_means_no_call(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    source.enqueue(log, &[member_joins("ann")]).await;
    source.outbox.drive(log, SOON).await.expect("driven");
    source.logs.set_health(Health::Down);
    let driven = source.outbox.drive(log, SOON).await.expect("nothing to drive");
    assert_eq!((driven.applied, driven.head), (1, 0));
    assert_eq!(source.logs.calls().len(), 1);
}

async fn a_fact_that_is_rolled_back_is_never_sent(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    source.enqueue_and_roll_back(log, &[member_joins("ann")]).await;
    assert_eq!(source.enqueue(log, &[member_joins("bob")]).await, 1);
    source.outbox.drive(log, SOON).await.expect("driven");
    assert_eq!(source.users(log), ["bob"]);
}

async fn many_bytes_are_split_into_calls_that_fit(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    for _ in 0..7 {
        source.enqueue(log, &[member_joins(&"x".repeat(30 * 1024))]).await;
    }
    source.outbox.drive(log, SOON).await.expect("driven");
    // Two copies of the name in each: 60 KiB a fact.
    let versions: Vec<_> = source.logs.calls().into_iter().map(|(_, facts)| facts).collect();
    assert_eq!(versions, [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
    assert_eq!(source.logs.log(log).events.len(), 7);
}

async fn an_answer_that_is_lost_does_not_repeat_the_events(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    source.enqueue(log, &[member_joins("ann"), member_joins("bob")]).await;
    source.logs.set_health(Health::Mute);
    let lost = source.outbox.drive(log, SOON).await.expect_err("no answer");
    assert!(matches!(lost, DriveError::Unavailable(_)), "{lost:?}");
    source.logs.set_health(Health::Up);
    assert_eq!(source.outbox.drive(log, SOON).await.expect("driven").applied, 1);
    assert_eq!(source.users(log), ["ann", "bob"]);
}

async fn a_restored_log_gets_again_what_it_lost(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    source.enqueue(log, &[member_joins("ann")]).await;
    source.outbox.drive(log, SOON).await.expect("driven");
    let backup = source.logs.log(log);
    for user in ["bob", "cleo"] {
        source.enqueue(log, &[member_joins(user)]).await;
        source.outbox.drive(log, SOON).await.expect("driven");
    }
    source.logs.restore(log, backup);
    source.enqueue(log, &[member_joins("dora")]).await;
    assert_eq!(source.outbox.drive(log, SOON).await.expect("driven").applied, 4);
    assert_eq!(source.users(log), ["ann", "bob", "cleo", "dora"]);
}

async fn a_lost_log_is_made_again(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    source.enqueue(log, &[member_joins("ann")]).await;
    source.outbox.drive(log, SOON).await.expect("driven");
    let fresh = Source { logs: parlance_outbox::testing::Logs::default(), ..source };
    let fresh = fresh.reconnected();
    fresh.enqueue(log, &[member_joins("bob")]).await;
    fresh.outbox.drive(log, SOON).await.expect("driven");
    assert_eq!(fresh.users(log), ["ann", "bob"]);
}

async fn a_restored_source_goes_on_behind_what_the_log_has(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    for user in ["ann", "bob", "cleo", "dan"] {
        source.enqueue(log, &[member_joins(user)]).await;
        source.outbox.drive(log, SOON).await.expect("driven");
    }
    source.rewind(log, 1).await;
    for user in ["dora", "emil"] {
        source.enqueue(log, &[member_joins(user)]).await;
    }
    // What the log skips as known is not what is meant.
    let driven = source.outbox.drive(log, SOON).await.expect("driven");
    assert_eq!(source.users(log), ["ann", "bob", "cleo", "dan", "dora", "emil"]);
    assert_eq!(driven.applied, 6);
    assert_eq!(source.outbox.counters().overtaken.load(Ordering::Relaxed), 1);
    assert_eq!(source.enqueue(log, &[member_joins("fred")]).await, 7);
    source.outbox.drive(log, SOON).await.expect("driven");
    assert_eq!(source.users(log).len(), 7);
}

async fn an_outage_is_told_and_the_relay_finishes(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    source.enqueue(log, &[member_joins("ann")]).await;
    source.logs.set_health(Health::Down);
    let tasks = Tasks::default();
    source.outbox.relay("relay", &tasks);
    let away = source.outbox.drive(log, SOON).await.expect_err("the log service is away");
    assert!(matches!(away, DriveError::Unavailable(_)), "{away:?}");
    let backlog = source.outbox.backlog().await.expect("a backlog");
    assert_eq!(backlog, Backlog { logs: 1, facts: 1 });
    source.logs.set_health(Health::Up);
    source.logs.wait_for(log, |log| log.events.len() == 1).await;
    tasks.close().await;
    assert!(source.outbox.counters().failed_drives.load(Ordering::Relaxed) > 0);
}

async fn a_log_in_trouble_does_not_delay_the_others(db: Db) {
    let source = Source::new(db);
    let (stuck, well) = (source.register("stuck").await, source.register("well").await);
    source.logs.hang_on(stuck);
    source.enqueue(stuck, &[member_joins("ann")]).await;
    let tasks = Tasks::default();
    source.outbox.relay("relay", &tasks);
    for count in 1..=2 {
        source.enqueue(well, &[member_joins("bob")]).await;
        source.logs.wait_for(well, |log| log.events.len() == count).await;
    }
    assert!(source.logs.log(stuck).events.is_empty());
    tasks.close().await;
}

async fn the_relay_takes_on_more_logs_than_it_drives_at_once(db: Db) {
    let source = Source::new(db);
    let mut logs = Vec::new();
    for n in 0..100 {
        let log = source.register(&format!("room {n}")).await;
        source.enqueue(log, &[member_joins("ann")]).await;
        logs.push(log);
    }
    let tasks = Tasks::default();
    source.outbox.relay("relay", &tasks);
    for log in logs {
        source.logs.wait_for(log, |log| log.events.len() == 1).await;
    }
    tasks.close().await;
}

async fn drives_at_once_apply_each_fact_once(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    let users: Vec<_> = (0..20).map(|n| format!("user {n}")).collect();
    let mut tasks = Vec::new();
    for user in &users {
        source.enqueue(log, &[member_joins(user)]).await;
        let outbox = source.outbox.clone();
        tasks.push(tokio::spawn(async move { outbox.drive(log, SOON).await }));
    }
    for (task, at_least) in tasks.into_iter().zip(1..) {
        let driven = task.await.expect("no panic").expect("driven");
        assert!(driven.applied >= at_least, "{driven:?}");
    }
    assert_eq!(source.users(log), users);
}

async fn a_drive_ends_with_its_deadline(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    source.enqueue(log, &[member_joins("ann")]).await;
    source.logs.set_health(Health::Hanging);
    let late = source.outbox.drive(log, Duration::from_millis(200)).await;
    let late = late.expect_err("no answer in time");
    assert!(matches!(late, DriveError::TimedOut | DriveError::Unavailable(_)), "{late:?}");
}

async fn facts_for_a_log_that_is_not_there_are_refused(db: Db) {
    let source = Source::of(db, FactSource::Room);
    let log = source.register("den").await;
    source.enqueue(log, &[member_joins("ann")]).await;
    let refused = source.outbox.drive(log, SOON).await.expect_err("no log");
    assert_eq!(refused.reason(), Some(Reason::LogNotFound));
    let unknown = source.outbox.drive(harness::new_log(), SOON).await.expect_err("unknown");
    assert!(matches!(unknown, DriveError::UnknownLog));
}

async fn registering_again_has_no_effect(db: Db) {
    let source = Source::new(db);
    let log = source.register("den").await;
    source.enqueue(log, &[member_joins("ann")]).await;
    source.register_as(log, "other").await;
    assert_eq!(source.enqueue(log, &[member_joins("bob")]).await, 2);
    source.outbox.drive(log, SOON).await.expect("driven");
    assert_eq!(source.logs.log(log).identity.room_id, "den");
}

#[tokio::test]
async fn the_relay_leaves_a_silent_postgres_behind() {
    let schema = TestSchema::new();
    let link = Link::to(&schema.url).await;
    let linked = TestSchema { url: link.url(), name: schema.name.clone() };
    let open = async |location| Db::open(&location, parlance_outbox::MIGRATIONS).await;
    let db = open(linked.location()).await.expect("open Postgres");
    let direct = Source::new(open(schema.location()).await.expect("open Postgres"));
    let source = Source::new(db.clone());
    let log = source.register("den").await;
    let tasks = Tasks::default();
    source.outbox.relay("relay", &tasks);
    source.enqueue(log, &[member_joins("ann")]).await;
    source.logs.wait_for(log, |log| log.events.len() == 1).await;
    link.silence();
    direct.enqueue(log, &[member_joins("bob")]).await;
    let found = source.logs.wait_for(log, |log| log.events.len() == 2);
    tokio::time::timeout(SOON, found).await.expect("the relay finds what is pending");
    tasks.close().await;
    db.close().await;
    direct.db.close().await;
    schema.drop().await;
}
