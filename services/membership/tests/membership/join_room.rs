//! JoinRoom.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;

use crate::harness::{
    Member, Owner, World, bad_ids, effects, join, refused, rules, strings, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        anyone_may_join_a_channel,
        joining_again_has_no_effect,
        a_group_is_not_joined,
        a_removed_user_cannot_join_until_added,
        a_user_who_left_may_join_again,
        a_full_room_takes_nobody_and_two_cannot_share_the_last_place,
        a_direct_room_is_not_joined,
        a_missing_room_and_a_bad_id_are_told_apart,
        a_service_needs_a_user_to_join,
);

/// B-058, B-084.
async fn anyone_may_join_a_channel(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner)]).await;
    let joined = world.user("bob").members.join_room(join("news")).await.expect("joined");
    let joined = joined.into_inner();
    let membership = joined.membership.expect("membership");
    assert!(!joined.already_member);
    assert_eq!((membership.user_id.as_str(), membership.role()), ("bob", Member));
    assert_eq!(membership.join_time.expect("time").seconds, 1000);
    let events = world.later_events(log);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].actor_id, "bob");
    assert_eq!(effects(&events[0]), (vec![("bob".to_owned(), Member)], vec![]));
    assert!(
        matches!(&events[0].body, Some(Body::MembersJoined(joined)) if joined.members.len() == 1)
    );
}

async fn joining_again_has_no_effect(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner)]).await;
    let again = world.user("ann").members.join_room(join("news")).await.expect("a member");
    let again = again.into_inner();
    assert!(again.already_member);
    assert_eq!(again.membership.expect("membership").role(), Owner);
    assert!(world.later_events(log).is_empty());
}

async fn a_group_is_not_joined(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    refused(world.user("bob").members.join_room(join("den")).await, Reason::JoinRestricted);
    assert!(world.later_events(log).is_empty());
}

/// B-074.
async fn a_removed_user_cannot_join_until_added(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let remove = pb::RemoveMembersRequest {
        room_id: "news".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    world.user("ann").members.remove_members(remove).await.expect("removed");
    let mut bob = world.user("bob");
    refused(bob.members.join_room(join("news")).await, Reason::RemovedFromRoom);
    let add = pb::AddMembersRequest {
        room_id: "news".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    world.user("ann").members.add_members(add).await.expect("added");
    assert!(bob.members.join_room(join("news")).await.expect("in").into_inner().already_member);
}

async fn a_user_who_left_may_join_again(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let mut bob = world.user("bob");
    let leave = pb::LeaveRoomRequest { room_id: "news".to_owned(), ..Default::default() };
    bob.members.leave_room(leave).await.expect("left");
    world.clock.advance(7_000_000);
    let back = bob.members.join_room(join("news")).await.expect("joined").into_inner();
    assert!(!back.already_member);
    assert_eq!(back.membership.expect("membership").join_time.expect("time").seconds, 1007);
    assert_eq!(world.later_events(log).len(), 2);
    assert_eq!(world.roles("news").await.len(), 2);
}

/// B-054, B-189.
async fn a_full_room_takes_nobody_and_two_cannot_share_the_last_place(db: Db) {
    let world = World::new(db);
    let rules = pb::RosterRules { join: pb::JoinRule::Anyone.into(), capacity: 2, ..rules() };
    world.open_as("acme", RoomKind::Channel, "tiny", rules, &[("ann", Owner)]).await;
    let (mut bob, mut cleo) = (world.user("bob"), world.user("cleo"));
    let (one, two) =
        tokio::join!(bob.members.join_room(join("tiny")), cleo.members.join_room(join("tiny")));
    let (well, full): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
    assert_eq!((well.len(), full.len()), (1, 1));
    for result in full {
        refused(result, Reason::RoomFull);
    }
    assert_eq!(world.roles("tiny").await.len(), 2);
}

async fn a_direct_room_is_not_joined(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    refused(world.user("ann").members.join_room(join("pair")).await, Reason::DirectRoom);
    let stranger = world.user("eve").members.join_room(join("pair")).await;
    let stranger = refused(stranger, Reason::RoomNotFound);
    let missing =
        refused(world.user("eve").members.join_room(join("no")).await, Reason::RoomNotFound);
    assert_eq!(stranger.message(), missing.message());
}

/// B-014, B-185, B-186.
async fn a_missing_room_and_a_bad_id_are_told_apart(db: Db) {
    let world = World::new(db);
    let mut ann = world.user("ann");
    refused(ann.members.join_room(join("nowhere")).await, Reason::RoomNotFound);
    for bad in bad_ids() {
        violates(ann.members.join_room(join(&bad)).await, "room_id");
    }
}

async fn a_service_needs_a_user_to_join(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner)]).await;
    refused(world.service().members.join_room(join("news")).await, Reason::UserRequired);
    world.service_for("bob").members.join_room(join("news")).await.expect("on bob's behalf");
    assert_eq!(world.roles("news").await.len(), 2);
}
