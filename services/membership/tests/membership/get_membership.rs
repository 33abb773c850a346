//! GetMembership.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;

use crate::harness::{Admin, Member, Owner, World, bad_ids, refused, refused_naming, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_member_sees_every_membership_of_the_room,
        strangers_and_former_members_see_nothing,
        a_direct_room_is_not_there_for_strangers,
        bad_fields_are_named,
);

fn get(room: &str, user: &str) -> pb::GetMembershipRequest {
    pb::GetMembershipRequest { room_id: room.to_owned(), user_id: user.to_owned() }
}

/// B-057, B-063.
async fn a_member_sees_every_membership_of_the_room(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Admin)]).await;
    for (mut clients, asked) in [
        (world.user("bob"), ""),
        (world.user("ann"), "bob"),
        (world.service_for("bob"), ""),
        (world.service(), "bob"),
    ] {
        let found = clients.members.get_membership(get("den", asked)).await.expect("found");
        let found = found.into_inner().membership.expect("membership");
        assert_eq!((found.room_id.as_str(), found.user_id.as_str()), ("den", "bob"));
        assert_eq!((found.role(), found.join_time.expect("time").seconds), (Admin, 1000));
    }
    let missing = world.user("ann").members.get_membership(get("den", "eve")).await;
    refused_naming(missing, Reason::MemberNotFound, "eve");
    refused(world.service().members.get_membership(get("den", "")).await, Reason::UserRequired);
}

/// B-073, B-202.
async fn strangers_and_former_members_see_nothing(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    refused(world.user("eve").members.get_membership(get("den", "ann")).await, Reason::NotAMember);
    let remove = pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: vec!["bob".to_owned()],
        ..Default::default()
    };
    world.user("ann").members.remove_members(remove).await.expect("removed");
    for asked in ["", "ann", "bob"] {
        let seen = world.user("bob").members.get_membership(get("den", asked)).await;
        refused(seen, Reason::NotAMember);
    }
    let gone = world.user("ann").members.get_membership(get("den", "bob")).await;
    refused_naming(gone, Reason::MemberNotFound, "bob");
}

async fn a_direct_room_is_not_there_for_strangers(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    world.user("ann").members.get_membership(get("pair", "bob")).await.expect("found");
    let mut eve = world.user("eve");
    let hidden =
        refused(eve.members.get_membership(get("pair", "ann")).await, Reason::RoomNotFound);
    let missing = refused(eve.members.get_membership(get("no", "ann")).await, Reason::RoomNotFound);
    assert_eq!(hidden.message(), missing.message());
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut ann = world.user("ann");
    for bad in bad_ids() {
        violates(ann.members.get_membership(get(&bad, "ann")).await, "room_id");
        if !bad.is_empty() {
            violates(ann.members.get_membership(get("den", &bad)).await, "user_id");
        }
    }
}
