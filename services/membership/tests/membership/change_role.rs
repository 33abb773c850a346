//! ChangeRole.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::MemberRole;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;

use crate::harness::{
    Admin, Member, Owner, World, bad_ids, effects, refused, refused_naming, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        an_owner_gives_every_role,
        only_owners_and_services_change_roles,
        the_role_that_a_member_has_has_no_effect,
        the_target_must_be_a_member,
        the_last_owner_is_demoted_only_with_a_successor,
        two_last_owners_cannot_demote_each_other_at_once,
        a_direct_room_has_no_roles_to_change,
        a_repeat_gets_the_first_reply,
        bad_fields_are_named,
);

fn change(room: &str, user: &str, role: MemberRole) -> pb::ChangeRoleRequest {
    pb::ChangeRoleRequest {
        room_id: room.to_owned(),
        user_id: user.to_owned(),
        role: role.into(),
        ..Default::default()
    }
}

/// B-082, B-083, B-196.
async fn an_owner_gives_every_role(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    for role in [Admin, Owner, Member] {
        let changed = world.user("ann").members.change_role(change("den", "bob", role)).await;
        let membership = changed.expect("changed").into_inner().membership.expect("membership");
        assert_eq!((membership.user_id.as_str(), membership.role()), ("bob", role));
        let event = world.later_events(log).pop().expect("an event");
        assert_eq!(effects(&event).0, [("bob".to_owned(), role)]);
        assert!(matches!(event.body, Some(Body::RolesChanged(_))));
        assert_eq!(world.roles("den").await[1], ("bob".to_owned(), role));
    }
}

/// B-083.
async fn only_owners_and_services_change_roles(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Admin), ("cleo", Member)]).await;
    for user in ["bob", "cleo"] {
        let changed = world.user(user).members.change_role(change("den", "cleo", Admin)).await;
        refused(changed, Reason::NotAllowed);
    }
    let stranger = world.user("eve").members.change_role(change("den", "cleo", Admin)).await;
    refused(stranger, Reason::NotAMember);
    world.service().members.change_role(change("den", "cleo", Admin)).await.expect("a service may");
    let as_bob = world.service_for("bob").members.change_role(change("den", "cleo", Member)).await;
    refused(as_bob, Reason::NotAllowed);
    let nowhere = world.service().members.change_role(change("no", "cleo", Admin)).await;
    refused(nowhere, Reason::RoomNotFound);
}

async fn the_role_that_a_member_has_has_no_effect(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Admin)]).await;
    let same = world.user("ann").members.change_role(change("den", "bob", Admin)).await;
    assert_eq!(same.expect("OK").into_inner().membership.expect("membership").role(), Admin);
    world.user("ann").members.change_role(change("den", "ann", Owner)).await.expect("OK");
    assert!(world.later_events(log).is_empty());
}

async fn the_target_must_be_a_member(db: Db) {
    let world = World::new(db);
    world.know("acme", &["eve"]).await;
    world.group("den", &[("ann", Owner)]).await;
    let missing = world.user("ann").members.change_role(change("den", "eve", Admin)).await;
    refused_naming(missing, Reason::MemberNotFound, "eve");
}

async fn the_last_owner_is_demoted_only_with_a_successor(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann");
    refused(ann.members.change_role(change("den", "ann", Member)).await, Reason::LastOwner);
    let to = |successor: &str| pb::ChangeRoleRequest {
        successor_user_id: successor.to_owned(),
        ..change("den", "ann", Admin)
    };
    refused_naming(ann.members.change_role(to("eve")).await, Reason::MemberNotFound, "eve");
    violates(ann.members.change_role(to("ann")).await, "successor_user_id");
    let changed = ann.members.change_role(to("bob")).await.expect("changed").into_inner();
    assert_eq!(changed.membership.expect("membership").role(), Admin);
    let roles = [("ann".to_owned(), Admin), ("bob".to_owned(), Owner)];
    assert_eq!(world.roles("den").await, roles);
    let events = world.later_events(log);
    assert_eq!(events.len(), 1);
    assert_eq!(effects(&events[0]).0, roles);
}

async fn two_last_owners_cannot_demote_each_other_at_once(db: Db) {
    let world = World::new(db);
    for round in 0..5 {
        let room = format!("den {round}");
        world.group(&room, &[("ann", Owner), ("bob", Owner)]).await;
        let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
        let (one, two) = tokio::join!(
            ann.members.change_role(change(&room, "bob", Member)),
            bob.members.change_role(change(&room, "ann", Member))
        );
        let (well, late): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
        assert_eq!((well.len(), late.len()), (1, 1));
        for result in late {
            refused(result, Reason::NotAllowed);
        }
        assert!(world.roles(&room).await.iter().any(|(_, role)| *role == Owner));
    }
}

async fn a_direct_room_has_no_roles_to_change(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    let request = change("pair", "bob", Admin);
    refused(world.user("ann").members.change_role(request.clone()).await, Reason::DirectRoom);
    refused(world.user("eve").members.change_role(request).await, Reason::RoomNotFound);
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann");
    let request =
        pb::ChangeRoleRequest { request_id: "r1".to_owned(), ..change("den", "bob", Admin) };
    let first = ann.members.change_role(request.clone()).await.expect("changed").into_inner();
    ann.members.change_role(change("den", "bob", Member)).await.expect("changed back");
    let again = ann.members.change_role(request).await.expect("told again").into_inner();
    assert_eq!(again, first);
    assert_eq!(world.later_events(log).len(), 2);
    assert_eq!(world.roles("den").await[1], ("bob".to_owned(), Member));
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut ann = world.user("ann");
    for bad in bad_ids() {
        violates(ann.members.change_role(change(&bad, "bob", Admin)).await, "room_id");
        violates(ann.members.change_role(change("den", &bad, Admin)).await, "user_id");
    }
    for role in [0, 4, -1] {
        let request = pb::ChangeRoleRequest { role, ..change("den", "bob", Admin) };
        violates(ann.members.change_role(request).await, "role");
    }
    let request = pb::ChangeRoleRequest {
        successor_user_id: "a\0".to_owned(),
        ..change("den", "bob", Admin)
    };
    violates(ann.members.change_role(request).await, "successor_user_id");
}
