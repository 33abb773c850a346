//! RemoveMembers.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;

use crate::harness::{
    Admin, Member, Owner, World, bad_ids, effects, refused, refused_naming, rules, strings,
    violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        many_are_removed_in_one_event_with_a_reason,
        strangers_may_not_remove,
        a_target_must_be_a_member_and_all_or_none_go,
        the_remove_rule_says_who_may,
        only_owners_remove_owners_and_admins,
        the_last_owners_are_not_removed_from_others,
        a_service_may_remove_everywhere,
        the_caller_leaves_instead,
        a_direct_room_has_its_two_users,
        a_repeat_gets_the_first_reply,
        bad_fields_are_named,
);

fn remove(room: &str, users: &[&str]) -> pb::RemoveMembersRequest {
    pb::RemoveMembersRequest {
        room_id: room.to_owned(),
        user_ids: strings(users),
        ..Default::default()
    }
}

/// B-069, B-087, B-138, B-195.
async fn many_are_removed_in_one_event_with_a_reason(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member), ("cleo", Admin)]).await;
    let request =
        pb::RemoveMembersRequest { reason: "spam".to_owned(), ..remove("den", &["cleo", "bob"]) };
    let removed = world.user("ann").members.remove_members(request).await.expect("removed");
    assert_eq!(removed.into_inner().removed_user_ids, ["cleo", "bob"]);
    let events = world.later_events(log);
    assert_eq!(events.len(), 1);
    assert_eq!(effects(&events[0]).1, ["cleo", "bob"]);
    assert_eq!(events[0].actor_id, "ann");
    let Some(Body::MembersLeft(left)) = &events[0].body else { panic!("{events:?}") };
    assert!(left.removed);
    assert_eq!(left.reason, "spam");
    assert_eq!(world.roles("den").await, [("ann".to_owned(), Owner)]);
}

/// B-184, B-203.
async fn strangers_may_not_remove(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut eve = world.user("eve");
    refused(eve.members.remove_members(remove("den", &["bob"])).await, Reason::NotAMember);
    refused(eve.members.remove_members(remove("den", &["nobody"])).await, Reason::NotAMember);
    refused(eve.members.remove_members(remove("no", &["bob"])).await, Reason::RoomNotFound);
}

/// B-076, B-185, B-203.
async fn a_target_must_be_a_member_and_all_or_none_go(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann");
    let missing = ann.members.remove_members(remove("den", &["bob", "eve"])).await;
    refused_naming(missing, Reason::MemberNotFound, "eve");
    assert!(world.later_events(log).is_empty());
    ann.members.remove_members(remove("den", &["bob"])).await.expect("removed");
    let twice = ann.members.remove_members(remove("den", &["bob"])).await;
    refused_naming(twice, Reason::MemberNotFound, "bob");
}

/// B-071, B-072.
async fn the_remove_rule_says_who_may(db: Db) {
    let world = World::new(db);
    let members = [
        ("ann", Owner),
        ("bob", Admin),
        ("cleo", Member),
        ("x", Member),
        ("y", Member),
        ("z", Member),
    ];
    let open = pb::RosterRules { remove: pb::MemberRule::Members.into(), ..rules() };
    world.open_as("acme", RoomKind::Group, "open", open, &members).await;
    world.open_as("acme", RoomKind::Group, "closed", rules(), &members).await;
    for (user, goes) in [("ann", "x"), ("bob", "y"), ("cleo", "z")] {
        let mut user = world.user(user);
        user.members.remove_members(remove("open", &[goes])).await.expect("members may");
        let removed = user.members.remove_members(remove("closed", &[goes])).await;
        if goes == "z" {
            refused(removed, Reason::NotAllowed);
        } else {
            removed.expect("admins may");
        }
    }
}

/// B-071, B-082, B-083.
async fn only_owners_remove_owners_and_admins(db: Db) {
    let world = World::new(db);
    let open = pb::RosterRules { remove: pb::MemberRule::Members.into(), ..rules() };
    let members = [
        ("o1", Owner),
        ("o2", Owner),
        ("o3", Owner),
        ("a1", Admin),
        ("a2", Admin),
        ("a3", Admin),
        ("m1", Member),
        ("m2", Member),
        ("m3", Member),
    ];
    world.open_as("acme", RoomKind::Group, "den", open, &members).await;
    for (user, target) in [("m1", "a1"), ("m1", "o1"), ("a1", "a2"), ("a1", "o1")] {
        let removed = world.user(user).members.remove_members(remove("den", &[target])).await;
        refused(removed, Reason::NotAllowed);
    }
    // One of them among others spoils the whole call.
    let mixed = world.user("m1").members.remove_members(remove("den", &["m2", "a1"])).await;
    refused(mixed, Reason::NotAllowed);
    let allowed = [("m1", "m2"), ("a1", "m3"), ("o1", "o2"), ("o1", "a3"), ("o1", "m1")];
    for (user, target) in allowed {
        let removed = world.user(user).members.remove_members(remove("den", &[target])).await;
        removed.unwrap_or_else(|status| panic!("{user} removes {target}: {status:?}"));
    }
}

async fn the_last_owners_are_not_removed_from_others(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Owner), ("cleo", Member)]).await;
    let mut service = world.service();
    let both = service.members.remove_members(remove("den", &["ann", "bob"])).await;
    refused(both, Reason::LastOwner);
    service.members.remove_members(remove("den", &["ann"])).await.expect("bob remains");
    refused(service.members.remove_members(remove("den", &["bob"])).await, Reason::LastOwner);
    service.members.remove_members(remove("den", &["bob", "cleo"])).await.expect("nobody remains");
    assert!(world.roles("den").await.is_empty());
}

/// B-086.
async fn a_service_may_remove_everywhere(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Admin), ("cleo", Member)]).await;
    let as_cleo = world.service_for("cleo").members.remove_members(remove("den", &["bob"])).await;
    refused(as_cleo, Reason::NotAllowed);
    world.service().members.remove_members(remove("den", &["bob"])).await.expect("removed");
    assert_eq!(world.later_events(log)[0].actor_id, "");
}

async fn the_caller_leaves_instead(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let own = world.user("ann").members.remove_members(remove("den", &["bob", "ann"])).await;
    violates(own, "user_ids[1]");
}

async fn a_direct_room_has_its_two_users(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    let request = remove("pair", &["bob"]);
    refused(world.user("ann").members.remove_members(request.clone()).await, Reason::DirectRoom);
    refused(world.service().members.remove_members(request.clone()).await, Reason::DirectRoom);
    refused(world.user("eve").members.remove_members(request).await, Reason::RoomNotFound);
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let request =
        pb::RemoveMembersRequest { request_id: "r1".to_owned(), ..remove("den", &["bob"]) };
    let mut ann = world.user("ann");
    for _ in 0..2 {
        let removed = ann.members.remove_members(request.clone()).await.expect("removed");
        assert_eq!(removed.into_inner().removed_user_ids, ["bob"]);
    }
    assert_eq!(world.later_events(log).len(), 1);
    let other = pb::RemoveMembersRequest { reason: "other".to_owned(), ..request };
    refused(ann.members.remove_members(other).await, Reason::RequestIdReused);
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut ann = world.user("ann");
    for bad in bad_ids() {
        violates(ann.members.remove_members(remove(&bad, &["bob"])).await, "room_id");
        violates(ann.members.remove_members(remove("den", &[&bad])).await, "user_ids[0]");
    }
    violates(ann.members.remove_members(remove("den", &[])).await, "user_ids");
    violates(ann.members.remove_members(remove("den", &["a", "a"])).await, "user_ids[1]");
    for reason in ["a\0".to_owned(), "é".repeat(257)] {
        let request = pb::RemoveMembersRequest { reason, ..remove("den", &["bob"]) };
        violates(ann.members.remove_members(request).await, "reason");
    }
}
