//! `BatchGetPresence`.

use parlance_proto::presence::v1 as pb;
use parlance_rpc::Principal;
use parlance_types::UserId;
use pb::Availability::{Offline, Online};

use crate::harness::{START, World, caller, getting, on, opening, violates};

crate::test_in_each_mode!(
    users_come_in_the_order_asked_for_with_what_they_say,
    last_seen_is_told_of_who_is_offline_and_written_once_a_minute,
    a_time_last_seen_that_is_to_come_is_not_told_and_written_anew,
    bad_fields_are_named,
);

const SECOND: i64 = 1_000_000;

/// B-135.
async fn users_come_in_the_order_asked_for_with_what_they_say(world: World) -> World {
    world.settle().await;
    let request = pb::OpenSessionRequest {
        resource: "phone".to_owned(),
        status: "x".repeat(64),
        ..pb::OpenSessionRequest::default()
    };
    world.user("ann").sessions.open_session(request).await.expect("opened");
    let reply =
        world.user("bob").presence.batch_get_presence(getting(&["cid", "ann", "bob"])).await;
    let presences = reply.expect("an answer").into_inner().presences;
    let found: Vec<_> = presences.iter().map(|p| (&*p.user_id, p.availability())).collect();
    assert_eq!(found, [("cid", Offline), ("ann", Online), ("bob", Offline)]);
    assert_eq!(presences[1].status, "x".repeat(64));
    assert!(presences.iter().all(|presence| presence.last_seen_time.is_none()));
    world
}

/// Ann comes and goes, on a node that has not seen her yet and so would write when.
async fn visit(world: &World) {
    let (node, tasks) = world.fresh();
    let mut ann = on(&node, caller("acme", Principal::User(UserId::new("ann"))));
    ann.sessions.open_session(opening("phone")).await.expect("opened");
    let resource = "phone".to_owned();
    ann.sessions.close_session(pb::CloseSessionRequest { resource }).await.expect("closed");
    tasks.close().await;
}

/// B-134.
async fn last_seen_is_told_of_who_is_offline_and_written_once_a_minute(world: World) -> World {
    world.settle().await;
    let seen = async |expected: i64| {
        visit(&world).await;
        let presence = world.presence("ann").await;
        assert_eq!(presence.availability(), Offline);
        assert_eq!(presence.last_seen_time.map(|time| time.seconds), Some(expected));
    };
    seen(START).await;
    for (later, expected) in [(59, 0), (1, 60), (30, 60), (31, 121)] {
        world.clock.advance(later * SECOND);
        seen(START + expected).await;
    }
    world
}

/// A node whose clock is an hour ahead sees ann; then its clock is set right.
async fn a_time_last_seen_that_is_to_come_is_not_told_and_written_anew(world: World) -> World {
    world.settle().await;
    let hour = 3600 * SECOND;
    world.clock.advance(hour);
    visit(&world).await;
    world.clock.advance(-hour);
    let presence = world.presence("ann").await;
    assert_eq!((presence.availability(), presence.last_seen_time), (Offline, None));
    visit(&world).await;
    let presence = world.presence("ann").await;
    assert_eq!(presence.last_seen_time.map(|time| time.seconds), Some(START));
    world
}

async fn bad_fields_are_named(world: World) -> World {
    let mut ann = world.user("ann");
    violates(ann.presence.batch_get_presence(getting(&[])).await, "user_ids");
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    violates(ann.presence.batch_get_presence(getting(&many)).await, "user_ids");
    ann.presence.batch_get_presence(getting(&many[..100])).await.expect("as many as may be");
    violates(ann.presence.batch_get_presence(getting(&["a", "\0"])).await, "user_ids[1]");
    violates(ann.presence.batch_get_presence(getting(&["a", "b", "a"])).await, "user_ids[2]");
    world
}
