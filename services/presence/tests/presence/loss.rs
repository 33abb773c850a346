//! State that is lost, or away.

use std::time::Duration;

use parlance_bus::testing::RedisCluster;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::presence::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use pb::Availability::{Offline, Online, Unknown};
use tokio::time::Instant;

use crate::harness::{
    DOUBT, START, World, assert_reason, caller, eventually, getting, keeping, next, on, opening,
    refused, told, watching,
};
use crate::state::outage::close_no_slots;

crate::test_in_each_mode!(
    after_a_loss_users_are_unknown_for_one_lease_and_never_offline,
    a_stream_that_keeps_a_lost_session_says_so,
    without_its_database_presence_is_told_all_the_same,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_that_is_away_hides_its_own_users_only() {
    Box::pin(crate::harness::on_a_cluster(without_a_node)).await;
}

#[tokio::test]
async fn while_redis_is_away_nobody_is_offline() {
    Box::pin(crate::harness::distributed(without_redis)).await;
}

async fn after_a_loss_users_are_unknown_for_one_lease_and_never_offline(world: World) -> World {
    let at_the_start = world.presence("bob").await.availability();
    // Making the world may take so long that it knows by now.
    let is_late = world.began.elapsed() >= DOUBT / 2;
    assert!(at_the_start == Unknown || is_late, "{at_the_start:?}");
    world.settle().await;
    world.open("ann", "phone").await;
    let watch = world.user("eve").presence.watch_presence(watching(&["ann", "bob"])).await;
    let mut frames = watch.expect("a stream").into_inner();
    told(&mut frames).await;
    let lost = Instant::now();
    world.lose().await;
    let mut unknown = told(&mut frames).await;
    if unknown.len() == 1 {
        unknown.extend(told(&mut frames).await);
    }
    assert!(unknown.iter().all(|(_, availability)| *availability == Unknown), "{unknown:?}");
    // Who comes back is online at once, the others offline once they had the time to.
    let mut ann = world.user("ann");
    let heartbeat = pb::HeartbeatRequest { resource: "phone".to_owned() };
    refused(ann.sessions.heartbeat(heartbeat).await, Reason::SessionNotFound);
    ann.sessions.open_session(opening("phone")).await.expect("opened");
    assert_eq!(told(&mut frames).await, [("ann".to_owned(), Online)]);
    assert_eq!(told(&mut frames).await, [("bob".to_owned(), Offline)]);
    assert!(lost.elapsed() >= DOUBT, "{:?}", lost.elapsed());
    world
}

async fn a_stream_that_keeps_a_lost_session_says_so(world: World) -> World {
    let lease = Duration::from_secs(2);
    let kept = world.user("ann").sessions.keep_session(keeping("phone", lease)).await;
    let mut kept = kept.expect("kept").into_inner();
    next(&mut kept).await.expect("opened");
    world.lose().await;
    let ended = loop {
        if let Err(ended) = next(&mut kept).await {
            break ended;
        }
    };
    assert_reason(&ended, Reason::SessionNotFound);
    let again = world.user("ann").sessions.keep_session(keeping("phone", lease)).await;
    let mut again = again.expect("kept").into_inner();
    next(&mut again).await.expect("opened");
    assert_eq!(world.presence("ann").await.availability(), Online);
    world
}

async fn without_its_database_presence_is_told_all_the_same(world: World) -> World {
    world.settle().await;
    for user in ["ann", "bob"] {
        world.open(user, "phone").await;
    }
    let watch = world.user("eve").presence.watch_presence(watching(&["ann", "bob"])).await;
    let mut frames = watch.expect("a stream").into_inner();
    let online = |user: &str| (user.to_owned(), Online);
    assert_eq!(told(&mut frames).await, [online("ann"), online("bob")]);
    world.hide_last_seen().await;
    let closing = pb::CloseSessionRequest { resource: "phone".to_owned() };
    world.user("ann").sessions.close_session(closing).await.expect("closed");
    let frame = next(&mut frames).await.expect("a frame").presences;
    assert_eq!((frame.len(), frame[0].availability()), (1, Offline));
    assert_eq!(frame[0].last_seen_time, None, "it cannot be told");
    let found = world.user("eve").presence.batch_get_presence(getting(&["ann", "bob"])).await;
    let found = found.expect("an answer").into_inner().presences;
    assert_eq!((found[0].availability(), found[1].availability()), (Offline, Online));
    // Once it can be read it is told.
    world.show_last_seen().await;
    let frame = next(&mut frames).await.expect("a frame").presences;
    assert_eq!((frame.len(), frame[0].availability()), (1, Offline));
    assert_eq!(frame[0].last_seen_time.map(|time| time.seconds), Some(START));
    world
}

async fn without_a_node(world: World, mut cluster: RedisCluster) -> World {
    close_no_slots(&cluster).await;
    let users: Vec<String> = (0..40).map(|number| format!("user {number}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    world.room("tea", RoomKind::Group, &users).await;
    let all = async || {
        let found = world.backend().presence.batch_get_presence(getting(&users)).await;
        let found = found.expect("an answer").into_inner().presences;
        found.iter().map(pb::Presence::availability).collect::<Vec<_>>()
    };
    let settle = || eventually(|| async { all().await == [Offline; 40] });
    settle().await;
    let watch = world.user("eve").presence.watch_presence(watching(&users)).await;
    let mut frames = watch.expect("a stream").into_inner();
    told(&mut frames).await;
    cluster.nodes[0].kill().await;
    let found = all().await;
    let away = found.iter().filter(|found| **found == Unknown).count();
    assert!((1..40).contains(&away), "{found:?}");
    assert_eq!(found.iter().filter(|found| **found == Offline).count(), 40 - away);
    let count = pb::GetRoomOnlineCountRequest { room_id: "tea".to_owned() };
    let count = world.backend().presence.get_room_online_count(count).await.expect("counted");
    let unknown = usize::try_from(count.into_inner().unknown_count).expect("a count");
    assert!((away..=away + 1).contains(&unknown), "ann is a member too: {unknown} of {away}");
    let mut hidden = Vec::new();
    while hidden.len() < away {
        hidden.extend(told(&mut frames).await);
    }
    assert!(hidden.iter().all(|(_, availability)| *availability == Unknown), "{hidden:?}");
    let lives = found.iter().position(|found| *found == Offline).expect("one who lives");
    world.open(users[lives], "phone").await;
    assert_eq!(told(&mut frames).await, [(users[lives].to_owned(), Online)]);
    let closing = pb::CloseSessionRequest { resource: "phone".to_owned() };
    world.user(users[lives]).sessions.close_session(closing).await.expect("closed");
    cluster.nodes[0].restart().await;
    settle().await;
    world
}

async fn without_redis(mut world: World) -> World {
    let link = world.cut_off().await;
    let node = world.node();
    let mut eve = on(&node, caller("acme", Principal::User(UserId::new("eve"))));
    world.open("ann", "phone").await;
    world.settle().await;
    let watch = eve.presence.watch_presence(watching(&["ann", "bob"])).await;
    let mut frames = watch.expect("a stream").into_inner();
    let first = told(&mut frames).await;
    assert_eq!(first, [("ann".to_owned(), Online), ("bob".to_owned(), Offline)]);
    link.cut();
    refused(eve.presence.batch_get_presence(getting(&["ann"])).await, Reason::PresenceUnavailable);
    refused(eve.sessions.open_session(opening("phone")).await, Reason::PresenceUnavailable);
    refused(eve.presence.watch_presence(watching(&["ann"])).await, Reason::PresenceUnavailable);
    let away = told(&mut frames).await;
    assert_eq!(away, [("ann".to_owned(), Unknown), ("bob".to_owned(), Unknown)]);
    link.mend();
    let mut back = told(&mut frames).await;
    if back.len() == 1 {
        back.extend(told(&mut frames).await);
    }
    back.sort();
    assert_eq!(back, first);
    world
}
