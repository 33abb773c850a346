//! AddMembers.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;

use crate::harness::{
    Admin, Member, Owner, World, add, bad_ids, effects, refused, refused_naming, rules, strings,
    violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        many_are_added_in_one_event,
        members_stay_as_they_are,
        adding_only_members_has_no_effect,
        strangers_may_not_add,
        the_add_rule_says_who_may,
        a_service_may_add_everywhere,
        users_must_exist_in_the_tenant,
        the_room_takes_no_more_than_its_capacity,
        a_removed_user_is_added_again_as_a_member,
        a_direct_room_has_its_two_users,
        a_repeat_gets_the_first_reply_also_without_rights,
        a_request_id_is_not_used_twice,
        two_backends_with_the_same_request_id_are_not_taken_for_one,
        the_same_request_at_once_is_done_once,
        bad_fields_are_named,
);

/// B-064, B-068, B-138, B-195.
async fn many_are_added_in_one_event(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob", "cleo", "dora"]).await;
    let log = world.group("den", &[("ann", Owner)]).await;
    let added = world.user("ann").members.add_members(add("den", &["dora", "bob", "cleo"])).await;
    let added = added.expect("added").into_inner();
    let ids: Vec<_> = added.added.iter().map(|m| (m.user_id.as_str(), m.role())).collect();
    assert_eq!(ids, [("bob", Member), ("cleo", Member), ("dora", Member)]);
    assert!(added.already_member_user_ids.is_empty());
    let events = world.later_events(log);
    assert_eq!(events.len(), 1);
    assert_eq!(effects(&events[0]).0.len(), 3);
    assert_eq!(world.roles("den").await.len(), 4);
}

/// B-066.
async fn members_stay_as_they_are(db: Db) {
    let world = World::new(db);
    world.know("acme", &["cleo"]).await;
    let log = world.group("den", &[("ann", Owner), ("bob", Admin)]).await;
    let added = world.user("ann").members.add_members(add("den", &["bob", "cleo"])).await;
    let added = added.expect("added").into_inner();
    assert_eq!(added.added.len(), 1);
    assert_eq!(added.already_member_user_ids, ["bob"]);
    assert_eq!(effects(&world.later_events(log)[0]).0, [("cleo".to_owned(), Member)]);
    assert_eq!(world.roles("den").await[1], ("bob".to_owned(), Admin));
}

/// B-066.
async fn adding_only_members_has_no_effect(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let added = world.user("ann").members.add_members(add("den", &["bob"])).await.expect("OK");
    assert_eq!(added.into_inner().already_member_user_ids, ["bob"]);
    assert!(world.later_events(log).is_empty());
}

/// B-063, B-184, B-203.
async fn strangers_may_not_add(db: Db) {
    let world = World::new(db);
    world.know("acme", &["cleo"]).await;
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut eve = world.user("eve");
    refused(eve.members.add_members(add("den", &["cleo"])).await, Reason::NotAMember);
    // Rights are judged before it is told who exists.
    refused(eve.members.add_members(add("den", &["nobody"])).await, Reason::NotAMember);
    refused(eve.members.add_members(add("nowhere", &["cleo"])).await, Reason::RoomNotFound);
    let mut bob = world.user("bob");
    let leave = pb::LeaveRoomRequest { room_id: "den".to_owned(), ..Default::default() };
    bob.members.leave_room(leave).await.expect("left");
    refused(bob.members.add_members(add("den", &["cleo"])).await, Reason::NotAMember);
}

/// B-064.
async fn the_add_rule_says_who_may(db: Db) {
    let world = World::new(db);
    world.know("acme", &["x", "y", "z"]).await;
    let members = [("ann", Owner), ("bob", Admin), ("cleo", Member)];
    let closed = pb::RosterRules { add: pb::MemberRule::Admins.into(), ..rules() };
    world.open_as("acme", RoomKind::Group, "closed", closed, &members).await;
    world.open_as("acme", RoomKind::Group, "open", rules(), &members).await;
    for (user, joins) in [("ann", "x"), ("bob", "y"), ("cleo", "z")] {
        world.user(user).members.add_members(add("open", &[joins])).await.expect("members may");
        let added = world.user(user).members.add_members(add("closed", &[joins])).await;
        if user == "cleo" {
            refused(added, Reason::NotAllowed);
        } else {
            added.expect("admins may");
        }
    }
}

/// B-086.
async fn a_service_may_add_everywhere(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob", "eve"]).await;
    let rules = pb::RosterRules { add: pb::MemberRule::Admins.into(), ..rules() };
    let log = world.open_as("acme", RoomKind::Group, "den", rules, &[("ann", Owner)]).await;
    world.service().members.add_members(add("den", &["bob"])).await.expect("added");
    assert_eq!(world.later_events(log)[0].actor_id, "");
    // On behalf of a user it has that user's rights, no more.
    let as_bob = world.service_for("bob").members.add_members(add("den", &["eve"])).await;
    refused(as_bob, Reason::NotAllowed);
}

/// B-065, B-185, B-203.
async fn users_must_exist_in_the_tenant(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    world.know("other", &["cleo"]).await;
    let log = world.group("den", &[("ann", Owner)]).await;
    let missing = world.user("ann").members.add_members(add("den", &["bob", "cleo"])).await;
    refused_naming(missing, Reason::UserNotFound, "cleo");
    assert!(world.later_events(log).is_empty());
    assert_eq!(world.roles("den").await.len(), 1);
}

/// B-189.
async fn the_room_takes_no_more_than_its_capacity(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob", "cleo", "dora"]).await;
    let rules = pb::RosterRules { capacity: 3, ..rules() };
    world.open_as("acme", RoomKind::Group, "den", rules, &[("ann", Owner)]).await;
    let mut ann = world.user("ann");
    let full = ann.members.add_members(add("den", &["bob", "cleo", "dora"])).await;
    refused(full, Reason::RoomFull);
    ann.members.add_members(add("den", &["bob", "cleo"])).await.expect("two fit");
    ann.members.add_members(add("den", &["bob", "cleo"])).await.expect("nobody new");
    refused(ann.members.add_members(add("den", &["dora"])).await, Reason::RoomFull);
}

/// B-074.
async fn a_removed_user_is_added_again_as_a_member(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Admin)]).await;
    let mut ann = world.user("ann");
    let remove = pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    ann.members.remove_members(remove).await.expect("removed");
    world.clock.advance(3_000_000);
    let own = world.user("bob").members.add_members(add("den", &["bob"])).await;
    refused(own, Reason::NotAMember);
    let added = ann.members.add_members(add("den", &["bob"])).await.expect("added").into_inner();
    assert_eq!(added.added[0].role(), Member);
    assert_eq!(added.added[0].join_time.expect("time").seconds, 1003);
}

async fn a_direct_room_has_its_two_users(db: Db) {
    let world = World::new(db);
    world.know("acme", &["cleo"]).await;
    world.direct("pair", ["ann", "bob"]).await;
    let request = add("pair", &["cleo"]);
    refused(world.user("ann").members.add_members(request.clone()).await, Reason::DirectRoom);
    refused(world.service().members.add_members(request.clone()).await, Reason::DirectRoom);
    refused(world.user("eve").members.add_members(request).await, Reason::RoomNotFound);
}

async fn a_repeat_gets_the_first_reply_also_without_rights(db: Db) {
    let world = World::new(db);
    world.know("acme", &["cleo"]).await;
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let request = pb::AddMembersRequest { request_id: "r1".to_owned(), ..add("den", &["cleo"]) };
    let mut bob = world.user("bob");
    let first = bob.members.add_members(request.clone()).await.expect("added").into_inner();
    let remove = pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&["bob", "cleo"]),
        ..Default::default()
    };
    world.user("ann").members.remove_members(remove).await.expect("removed");
    let again = bob.members.add_members(request.clone()).await.expect("told again").into_inner();
    assert_eq!(again, first);
    assert_eq!(world.later_events(log).len(), 2);
    // A refused call leaves no record: its repeat is judged anew.
    let request = pb::AddMembersRequest { request_id: "r2".to_owned(), ..request };
    refused(bob.members.add_members(request).await, Reason::NotAMember);
}

async fn a_request_id_is_not_used_twice(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob", "cleo"]).await;
    world.group("den", &[("ann", Owner)]).await;
    let mut ann = world.user("ann");
    let with_id =
        |users: &[&str]| pb::AddMembersRequest { request_id: "r1".to_owned(), ..add("den", users) };
    ann.members.add_members(with_id(&["bob"])).await.expect("added");
    refused(ann.members.add_members(with_id(&["cleo"])).await, Reason::RequestIdReused);
    // Also not by another method.
    let request = pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&["bob"]),
        request_id: "r1".to_owned(),
        ..Default::default()
    };
    refused(ann.members.remove_members(request).await, Reason::RequestIdReused);
    assert_eq!(world.roles("den").await.len(), 2);
}

async fn two_backends_with_the_same_request_id_are_not_taken_for_one(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob", "cleo"]).await;
    world.group("den", &[("ann", Owner)]).await;
    let with_id =
        |users: &[&str]| pb::AddMembersRequest { request_id: "r1".to_owned(), ..add("den", users) };
    for (backend, user) in [("shop", "bob"), ("crm", "cleo"), ("shop", "bob")] {
        let added = world.backend(backend).members.add_members(with_id(&[user])).await;
        assert_eq!(added.expect("added").into_inner().added.len(), 1, "{backend}");
    }
    assert_eq!(world.roles("den").await.len(), 3);
}

async fn the_same_request_at_once_is_done_once(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    let log = world.group("den", &[("ann", Owner)]).await;
    let request = pb::AddMembersRequest { request_id: "r1".to_owned(), ..add("den", &["bob"]) };
    let calls = (0..6).map(|_| {
        let (mut ann, request) = (world.user("ann"), request.clone());
        async move { ann.members.add_members(request).await }
    });
    let replies = futures::future::join_all(calls).await;
    for reply in replies {
        assert_eq!(reply.expect("added").into_inner().added.len(), 1);
    }
    assert_eq!(world.later_events(log).len(), 1);
}

/// B-186.
async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut ann = world.user("ann");
    for bad in bad_ids() {
        violates(ann.members.add_members(add(&bad, &["bob"])).await, "room_id");
        violates(ann.members.add_members(add("den", &["bob", &bad])).await, "user_ids[1]");
    }
    violates(ann.members.add_members(add("den", &[])).await, "user_ids");
    violates(ann.members.add_members(add("den", &["a", "b", "a"])).await, "user_ids[2]");
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    violates(ann.members.add_members(add("den", &many)).await, "user_ids");
    let request = pb::AddMembersRequest { request_id: "a\0".to_owned(), ..add("den", &["bob"]) };
    violates(ann.members.add_members(request).await, "request_id");
}
