//! LeaveRoom.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;

use crate::harness::{Admin, Member, Owner, World, effects, refused, refused_naming, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_member_may_always_leave,
        strangers_cannot_leave,
        the_last_owner_names_a_successor,
        the_last_owner_may_leave_an_empty_room,
        an_owner_among_owners_needs_no_successor,
        a_successor_must_be_another_member,
        two_last_owners_cannot_leave_at_once,
        a_room_that_never_had_an_owner_needs_none,
        either_side_may_leave_a_direct_room,
        a_repeat_gets_the_first_reply_and_another_payload_is_refused,
        bad_fields_are_named,
        a_service_needs_a_user_to_leave,
);

fn leave(room: &str) -> pb::LeaveRoomRequest {
    pb::LeaveRoomRequest { room_id: room.to_owned(), ..Default::default() }
}

fn leave_to(room: &str, successor: &str) -> pb::LeaveRoomRequest {
    pb::LeaveRoomRequest { successor_user_id: successor.to_owned(), ..leave(room) }
}

/// B-059, B-070.
async fn a_member_may_always_leave(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    world.user("bob").members.leave_room(leave("den")).await.expect("left");
    let events = world.later_events(log);
    assert_eq!(events.len(), 1);
    assert_eq!(effects(&events[0]), (vec![], vec!["bob".to_owned()]));
    assert_eq!(events[0].actor_id, "bob");
    assert!(matches!(&events[0].body, Some(Body::MembersLeft(left)) if !left.removed));
    assert_eq!(world.roles("den").await, [("ann".to_owned(), Owner)]);
}

async fn strangers_cannot_leave(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut bob = world.user("bob");
    bob.members.leave_room(leave("den")).await.expect("left");
    refused_naming(bob.members.leave_room(leave("den")).await, Reason::MemberNotFound, "bob");
    let stranger = world.user("eve").members.leave_room(leave("den")).await;
    refused_naming(stranger, Reason::MemberNotFound, "eve");
    refused(bob.members.leave_room(leave("nowhere")).await, Reason::RoomNotFound);
}

async fn the_last_owner_names_a_successor(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member), ("cleo", Admin)]).await;
    let mut ann = world.user("ann");
    refused(ann.members.leave_room(leave("den")).await, Reason::LastOwner);
    assert!(world.later_events(log).is_empty());
    ann.members.leave_room(leave_to("den", "bob")).await.expect("left");
    let roles = [("bob".to_owned(), Owner), ("cleo".to_owned(), Admin)];
    assert_eq!(world.roles("den").await, roles);
    let events = world.later_events(log);
    assert_eq!(effects(&events[0]), (vec![("bob".to_owned(), Owner)], vec![]));
    assert_eq!(effects(&events[1]), (vec![], vec!["ann".to_owned()]));
    // Both events came as one fact.
    assert_eq!(world.logs.calls().last().expect("a call").1, [2]);
}

async fn the_last_owner_may_leave_an_empty_room(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    world.user("ann").members.leave_room(leave("den")).await.expect("left");
    assert!(world.roles("den").await.is_empty());
}

async fn an_owner_among_owners_needs_no_successor(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Owner), ("cleo", Member)]).await;
    // One that is named all the same is ignored.
    world.user("ann").members.leave_room(leave_to("den", "cleo")).await.expect("left");
    let roles = [("bob".to_owned(), Owner), ("cleo".to_owned(), Member)];
    assert_eq!(world.roles("den").await, roles);
    assert_eq!(world.later_events(log).len(), 1);
}

async fn a_successor_must_be_another_member(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann");
    let stranger = ann.members.leave_room(leave_to("den", "eve")).await;
    refused_naming(stranger, Reason::MemberNotFound, "eve");
    violates(ann.members.leave_room(leave_to("den", "ann")).await, "successor_user_id");
    assert_eq!(world.roles("den").await.len(), 2);
}

async fn two_last_owners_cannot_leave_at_once(db: Db) {
    let world = World::new(db);
    for round in 0..5 {
        let room = format!("den {round}");
        world.group(&room, &[("ann", Owner), ("bob", Owner), ("cleo", Member)]).await;
        let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
        let (one, two) = tokio::join!(
            ann.members.leave_room(leave(&room)),
            bob.members.leave_room(leave(&room))
        );
        let (well, last): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
        assert_eq!((well.len(), last.len()), (1, 1));
        for result in last {
            refused(result, Reason::LastOwner);
        }
        assert!(world.roles(&room).await.iter().any(|(_, role)| *role == Owner));
    }
}

async fn a_room_that_never_had_an_owner_needs_none(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Admin), ("bob", Member)]).await;
    world.user("ann").members.leave_room(leave("den")).await.expect("left");
    assert_eq!(world.roles("den").await, [("bob".to_owned(), Member)]);
}

async fn either_side_may_leave_a_direct_room(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    world.user("ann").members.leave_room(leave("pair")).await.expect("left");
    assert_eq!(world.roles("pair").await, [("bob".to_owned(), Member)]);
    let again = world.user("ann").members.leave_room(leave("pair")).await;
    refused_naming(again, Reason::MemberNotFound, "ann");
    refused(world.user("eve").members.leave_room(leave("pair")).await, Reason::RoomNotFound);
}

async fn a_repeat_gets_the_first_reply_and_another_payload_is_refused(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut bob = world.user("bob");
    let request = pb::LeaveRoomRequest { request_id: "r1".to_owned(), ..leave("news") };
    bob.members.leave_room(request.clone()).await.expect("left");
    bob.members.leave_room(request).await.expect("told again");
    assert_eq!(world.later_events(log).len(), 1);
    let other = pb::LeaveRoomRequest { request_id: "r1".to_owned(), ..leave_to("news", "ann") };
    refused(bob.members.leave_room(other).await, Reason::RequestIdReused);
    // In another room it is another request.
    let other = pb::LeaveRoomRequest { request_id: "r1".to_owned(), ..leave("den") };
    bob.members.leave_room(other).await.expect("left");
    // The ids of others are their own.
    let request = pb::LeaveRoomRequest { request_id: "r1".to_owned(), ..leave("den") };
    world.user("ann").members.leave_room(request).await.expect("left");
    assert!(world.roles("den").await.is_empty());
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut ann = world.user("ann");
    violates(ann.members.leave_room(leave("")).await, "room_id");
    violates(ann.members.leave_room(leave_to("den", "a\nb")).await, "successor_user_id");
    let request = pb::LeaveRoomRequest { request_id: "x".repeat(129), ..leave("den") };
    violates(ann.members.leave_room(request).await, "request_id");
}

async fn a_service_needs_a_user_to_leave(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    refused(world.service().members.leave_room(leave("den")).await, Reason::UserRequired);
}
