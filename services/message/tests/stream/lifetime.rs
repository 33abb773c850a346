//! How streams live and end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parlance_bus::InProcessBus;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::testing::{eventually, refused};
use parlance_rpc::{Principal, Reason};
use parlance_types::{Clock, ManualClock, SystemClock, UserId};
use tonic::Code;
use tonic_types::StatusExt;

use crate::rooms::group;
use crate::stream::harness::{
    Node, Reader, all_rooms, appended, from, hang, hints_only, in_millis, latest, node, node_with,
};

test_on_each_db!(parlance_message::MIGRATIONS =>
    an_expired_token_ends_the_stream_within_a_second,
    a_stream_ends_when_the_clock_jumps_beyond_its_token,
    a_store_that_hangs_holds_up_neither_the_end_of_a_stream_nor_its_other_rooms,
    a_draining_node_sends_its_streams_away,
    streams_that_are_sent_away_together_are_told_different_times,
    a_stream_that_is_sent_away_before_it_knows_its_rooms_gives_its_cursors_back,
    a_stream_ends_when_its_life_is_over,
    heartbeats_name_the_positions_that_moved,
    a_user_has_a_bounded_number_of_streams,
    a_stream_counts_as_open_until_its_reader_is_gone,
    those_who_act_for_nobody_have_a_bounded_number_of_streams,
    a_service_has_a_bounded_number_of_streams_whoever_it_acts_for,
);

/// B-133. The end of a token stands in its caller, the leeway for clocks included. The time
/// that passes is not waited for, so that no load on the machine blurs the bounds.
async fn an_expired_token_ends_the_stream_within_a_second(db: Db) {
    let node = node(&db).await;
    group(&node, "r", &["ann"]).await;
    let ann = Principal::User(UserId::new("ann"));
    let began = SystemClock.now();
    let mut client = node.client_until(ann, in_millis(10_000));
    let stream = client.subscribe(latest(&["r"])).await.expect("a stream");
    let mut reader = Reader::new(stream.into_inner());
    reader.live().await;
    tokio::time::pause();
    let paused = tokio::time::Instant::now();
    let already = u64::try_from(SystemClock.now() - began).expect("time passes");
    let ended = reader.read().await.expect_err("the token expires");
    let lasted = Duration::from_micros(already) + paused.elapsed();
    tokio::time::resume();
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert_eq!(Reason::of(&ended), Some(Reason::TokenExpired));
    let seconds = Duration::from_secs;
    assert!((seconds(9)..=seconds(11)).contains(&lasted), "{lasted:?}");
}

/// A clock that was behind lets a stream open with a token that is over. Once it is set right
/// the stream ends with the next thing that it does, a heartbeat at the latest.
async fn a_stream_ends_when_the_clock_jumps_beyond_its_token(db: Db) {
    const HOUR: i64 = 3_600_000_000;
    let clock = Arc::new(ManualClock::at(SystemClock.now() - 2 * HOUR));
    let bus = Arc::new(InProcessBus::default());
    let node = Node::start_by(&db, bus, hints_only(), Arc::clone(&clock) as Arc<dyn Clock>).await;
    group(&node, "r", &["ann"]).await;
    let ann = Principal::User(UserId::new("ann"));
    let mut client = node.client_until(ann, clock.now() + HOUR);
    let stream = client.subscribe(latest(&["r"])).await.expect("a stream");
    let mut reader = Reader::new(stream.into_inner());
    reader.live().await;
    clock.advance(2 * HOUR);
    tokio::time::pause();
    let paused = tokio::time::Instant::now();
    let ended = reader.read().await.expect_err("the token is over");
    let lasted = paused.elapsed();
    tokio::time::resume();
    assert_eq!(Reason::of(&ended), Some(Reason::TokenExpired));
    assert!(lasted <= Duration::from_secs(31), "{lasted:?}");
}

async fn a_store_that_hangs_holds_up_neither_the_end_of_a_stream_nor_its_other_rooms(db: Db) {
    let mut options = hints_only();
    options.ring.events = 1;
    let node = node_with(&db, options).await;
    let (slow, quick) =
        (group(&node, "slow", &["ann"]).await, group(&node, "quick", &["ann"]).await);
    let ann = Principal::User(UserId::new("ann"));
    let mut client = node.client_until(ann, in_millis(4000));
    let stream = client.subscribe(latest(&["slow", "quick"])).await.expect("a stream");
    let mut reader = Reader::new(stream.into_inner());
    reader.all_caught_up(2).await;
    let epoch = node.store.epoch().await.expect("an epoch");
    let publish = node.hub.publisher();
    let tell = |room, events| publish(vec![appended(room, &epoch, events)]);
    let held = hang(&db).await;
    let began = Instant::now();
    // More at once than the ring holds: the stream has to read.
    tell(&slow, 3..=5);
    tell(&quick, 3..=3);
    assert_eq!(reader.event().await.seq, 3);
    tell(&quick, 4..=4);
    assert_eq!(reader.event().await.seq, 4);
    let ended = reader.read().await.expect_err("the token expires");
    assert_eq!(Reason::of(&ended), Some(Reason::TokenExpired));
    // Before any question to the store has run out of time.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(held);
}

/// B-133.
async fn a_draining_node_sends_its_streams_away(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    let mut reader = node.subscribe("ann", from(&room, "", 0)).await;
    let epoch = reader.attached().await.epoch;
    reader.events_until(2).await;
    reader.caught_up().await;
    node.draining.cancel();
    let Frame::GoAway(go_away) = reader.next().await else { panic!("go away") };
    assert!(go_away.after.is_some_and(|after| after.seconds <= 5));
    let cursor = go_away.cursors[0].cursor.clone().expect("a cursor");
    assert_eq!((go_away.cursors[0].room_id.as_str(), cursor.epoch, cursor.seq), ("r", epoch, 2));
    assert_eq!(reader.read().await.expect("OK"), None);
    let status = refused(node.try_subscribe("ann", latest(&["r"])).await, Reason::Draining);
    assert!(status.get_details_retry_info().is_some());
}

/// So that those who were sent away at once do not come back at once.
async fn streams_that_are_sent_away_together_are_told_different_times(db: Db) {
    const STREAMS: usize = 16;
    let node = node(&db).await;
    group(&node, "r", &["ann"]).await;
    let mut readers = Vec::new();
    for _ in 0..STREAMS {
        readers.push(node.subscribe("ann", latest(&["r"])).await);
    }
    node.draining.cancel();
    let mut delays = BTreeSet::new();
    for mut reader in readers {
        let Some(Frame::GoAway(go_away)) = reader.rest().await.pop() else { panic!("go away") };
        let after = go_away.after.expect("a delay");
        delays.insert(Duration::try_from(after).expect("no negative delay"));
    }
    let (first, last) = (delays.first().expect("a delay"), delays.last().expect("a delay"));
    assert_eq!(delays.len(), STREAMS, "no two are equal");
    assert!(*last <= Duration::from_secs(5), "{last:?}");
    // That 16 draws from 5 s lie within one happens once in a billion times.
    assert!(last.abs_diff(*first) > Duration::from_secs(1), "{delays:?}");
}

async fn a_stream_that_is_sent_away_before_it_knows_its_rooms_gives_its_cursors_back(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    let given = from(&room, "an epoch", 2).rooms;
    let held = hang(&db).await;
    let request =
        pb::SubscribeRequest { rooms: given.clone(), ..all_rooms(pb::StreamStart::Latest) };
    let mut reader = node.subscribe("ann", request).await;
    node.draining.cancel();
    let Frame::GoAway(go_away) = reader.next().await else { panic!("go away") };
    assert_eq!(go_away.cursors, given);
    drop(held);
}

async fn a_stream_ends_when_its_life_is_over(db: Db) {
    let mut options = hints_only();
    options.life = Duration::from_millis(50)..=Duration::from_millis(100);
    let node = node_with(&db, options).await;
    group(&node, "r", &["ann"]).await;
    let mut reader = node.subscribe("ann", latest(&["r"])).await;
    let frames = reader.rest().await;
    assert!(matches!(frames.last(), Some(Frame::GoAway(_))));
}

async fn heartbeats_name_the_positions_that_moved(db: Db) {
    let mut options = hints_only();
    options.heartbeat = Duration::from_millis(100)..=Duration::from_millis(120);
    let node = node_with(&db, options).await;
    let room = group(&node, "r", &["ann"]).await;
    group(&node, "quiet", &["ann"]).await;
    let mut reader = node.subscribe("ann", latest(&["r", "quiet"])).await;
    reader.all_caught_up(2).await;
    let (mut delivered, mut told) = (2, 2);
    for _ in 0..5 {
        node.send(&room, "x").await;
    }
    let mut empty = 0;
    while empty < 2 {
        match reader.next().await {
            Frame::Event(event) => {
                let seq = event.event.expect("an event").seq;
                assert!(seq > told, "nothing up to a heartbeat's position comes after it");
                delivered = seq;
            }
            Frame::Heartbeat(heartbeat) if heartbeat.heads.is_empty() => {
                empty += i32::from(told == 7);
            }
            Frame::Heartbeat(heartbeat) => {
                assert_eq!(heartbeat.heads.len(), 1);
                assert_eq!(heartbeat.heads[0].room_id, "r");
                told = heartbeat.heads[0].seq;
                assert_eq!(told, delivered);
            }
            _ => {}
        }
    }
}

/// B-189.
async fn a_user_has_a_bounded_number_of_streams(db: Db) {
    let mut options = hints_only();
    options.streams_per_user = 2;
    let node = node_with(&db, options).await;
    group(&node, "r", &["ann", "bob"]).await;
    let first = node.subscribe("ann", latest(&["r"])).await;
    let _second = node.subscribe("ann", latest(&["r"])).await;
    let status = refused(node.try_subscribe("ann", latest(&["r"])).await, Reason::TooManyStreams);
    // No time is told: waiting alone does not help.
    assert!(status.get_details_retry_info().is_none());
    let quota = status.get_details_quota_failure().expect("a QuotaFailure");
    assert_eq!(quota.violations[0].subject, "TOO_MANY_STREAMS");
    node.subscribe("bob", latest(&["r"])).await;
    // One that its reader gave up makes room for another.
    drop(first);
    eventually(|| async { node.try_subscribe("ann", latest(&["r"])).await.is_ok() }).await;
}

async fn a_stream_counts_as_open_until_its_reader_is_gone(db: Db) {
    let mut options = hints_only();
    options.stall = Duration::from_millis(100);
    options.head_check = Duration::from_millis(20);
    options.streams_per_user = 1;
    let node = node_with(&db, options).await;
    let room = group(&node, "r", &["ann"]).await;
    let stalled = node.subscribe("ann", latest(&["r"])).await;
    let counters = node.hub.counters();
    while counters.stalled.load(Ordering::Relaxed) == 0 {
        node.send(&room, "x").await;
    }
    // It is over, but what nobody read is still in memory.
    refused(node.try_subscribe("ann", latest(&["r"])).await, Reason::TooManyStreams);
    drop(stalled);
    eventually(|| async { node.try_subscribe("ann", latest(&["r"])).await.is_ok() }).await;
}

/// However many users it names.
async fn a_service_has_a_bounded_number_of_streams_whoever_it_acts_for(db: Db) {
    let mut options = hints_only();
    options.streams_per_service = 3;
    let node = node_with(&db, options).await;
    let users = ["ann", "bob", "cas", "dan"];
    group(&node, "r", &users).await;
    let subscribe = async |principal: Principal| {
        node.client(principal).subscribe(latest(&["r"])).await.map(tonic::Response::into_inner)
    };
    let for_user = |user: &str| Principal::ServiceFor(UserId::new(user));
    let mut open = Vec::new();
    for user in ["ann", "bob"] {
        open.push(subscribe(for_user(user)).await.expect("a stream"));
    }
    open.push(subscribe(Principal::Service).await.expect("a stream"));
    for user in users {
        refused(subscribe(for_user(user)).await.map(tonic::Response::new), Reason::TooManyStreams);
        node.subscribe(user, latest(&["r"])).await;
    }
    drop(open.pop());
    eventually(|| async { subscribe(for_user("dan")).await.is_ok() }).await;
}

async fn those_who_act_for_nobody_have_a_bounded_number_of_streams(db: Db) {
    let mut options = hints_only();
    options.streams_for_nobody = 1;
    let node = node_with(&db, options).await;
    group(&node, "r", &["ann"]).await;
    let mut backend = node.client(Principal::Service);
    let open = backend.subscribe(latest(&["r"])).await.expect("a stream");
    refused(backend.subscribe(latest(&["r"])).await, Reason::TooManyStreams);
    node.subscribe("ann", latest(&["r"])).await;
    drop(open);
}
