//! UpdateMemberMetadata and BatchGetMemberMetadata.

use std::collections::BTreeMap;

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;

use crate::harness::{
    Admin, Clients, Member, Owner, World, add, bad_ids, refused, refused_naming, strings, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        keys_are_set_and_deleted_in_one_event,
        what_changes_nothing_is_no_event,
        members_change_their_own_and_admins_everybodys,
        metadata_is_gone_with_the_membership,
        a_member_has_8_keys,
        a_repeat_gets_the_first_reply,
        members_and_services_read_it,
        bad_fields_are_named,
);

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn update(user: &str, set: &[(&str, &str)], gone: &[&str]) -> pb::UpdateMemberMetadataRequest {
    pb::UpdateMemberMetadataRequest {
        room_id: "den".to_owned(),
        user_id: user.to_owned(),
        set: pairs(set),
        delete_keys: strings(gone),
        ..Default::default()
    }
}

async fn change(
    client: &mut Clients,
    request: pb::UpdateMemberMetadataRequest,
) -> BTreeMap<String, String> {
    let reply = client.member.update_member_metadata(request).await.expect("updated");
    reply.into_inner().member.expect("a member").metadata
}

fn get(room: &str, users: &[&str]) -> pb::BatchGetMemberMetadataRequest {
    let (room_id, user_ids) = (room.to_owned(), strings(users));
    pb::BatchGetMemberMetadataRequest { room_id, user_ids }
}

/// What is said of members, as Ann sees it.
async fn said(world: &World, users: &[&str]) -> Vec<(String, BTreeMap<String, String>)> {
    let reply = world.user("ann").member.batch_get_member_metadata(get("den", users)).await;
    let members = reply.expect("metadata").into_inner().members;
    members.into_iter().map(|member| (member.user_id, member.metadata)).collect()
}

/// B-090.
async fn keys_are_set_and_deleted_in_one_event(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut bob = world.user("bob");
    change(&mut bob, update("", &[("a", "1"), ("b", "1")], &[])).await;
    let now = change(&mut bob, update("bob", &[("b", "2"), ("c", "3")], &["a"])).await;
    assert_eq!(now, pairs(&[("b", "2"), ("c", "3")]));
    assert_eq!(said(&world, &["bob"]).await, [("bob".to_owned(), now)]);
    let event = world.later_events(log).remove(1);
    assert_eq!((event.actor_id.as_str(), &event.effects), ("bob", &None));
    let Some(Body::MemberUpdated(updated)) = event.body else { panic!("another event") };
    assert_eq!((updated.user_id.as_str(), updated.set), ("bob", pairs(&[("b", "2"), ("c", "3")])));
    assert_eq!(updated.deleted_keys, ["a"]);
}

async fn what_changes_nothing_is_no_event(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    let mut ann = world.user("ann");
    change(&mut ann, update("", &[("a", "1")], &[])).await;
    assert_eq!(change(&mut ann, update("", &[("a", "1")], &["b"])).await, pairs(&[("a", "1")]));
    assert_eq!(world.later_events(log).len(), 1);
}

/// B-090.
async fn members_change_their_own_and_admins_everybodys(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Admin), ("cleo", Member), ("dan", Member)]).await;
    let wish = |user: &str| update(user, &[("a", "1")], &[]);
    for (actor, user) in [("ann", "bob"), ("bob", "ann"), ("bob", "cleo"), ("cleo", "cleo")] {
        change(&mut world.user(actor), wish(user)).await;
    }
    change(&mut world.service(), wish("dan")).await;
    change(&mut world.service_for("dan"), wish("dan")).await;
    let mut cleo = world.user("cleo");
    refused(cleo.member.update_member_metadata(wish("dan")).await, Reason::NotAllowed);
    let mut for_cleo = world.service_for("cleo");
    refused(for_cleo.member.update_member_metadata(wish("dan")).await, Reason::NotAllowed);
    let mut eve = world.user("eve");
    refused(eve.member.update_member_metadata(wish("eve")).await, Reason::NotAMember);
    let stranger = world.user("ann").member.update_member_metadata(wish("eve")).await;
    refused_naming(stranger, Reason::MemberNotFound, "eve");
    refused(world.service().member.update_member_metadata(wish("")).await, Reason::UserRequired);
    let mut other = world.service_of("other");
    refused(other.member.update_member_metadata(wish("ann")).await, Reason::RoomNotFound);

    // In a direct room everybody has their own.
    world.direct("pair", ["ann", "bob"]).await;
    let pair =
        |user: &str| pb::UpdateMemberMetadataRequest { room_id: "pair".to_owned(), ..wish(user) };
    change(&mut world.user("ann"), pair("ann")).await;
    let others = world.user("ann").member.update_member_metadata(pair("bob")).await;
    refused(others, Reason::NotAllowed);
    refused(eve.member.update_member_metadata(pair("eve")).await, Reason::RoomNotFound);
}

/// B-090.
async fn metadata_is_gone_with_the_membership(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Member), ("cleo", Member)]).await;
    for user in ["bob", "cleo"] {
        change(&mut world.user(user), update("", &[("a", "1")], &[])).await;
    }
    let leave = pb::LeaveRoomRequest { room_id: "den".to_owned(), ..Default::default() };
    world.user("bob").members.leave_room(leave).await.expect("left");
    let remove = pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&["cleo"]),
        ..Default::default()
    };
    let mut ann = world.user("ann");
    ann.members.remove_members(remove).await.expect("removed");
    assert!(said(&world, &["bob", "cleo"]).await.is_empty());
    ann.members.add_members(add("den", &["bob", "cleo"])).await.expect("added");
    let nothing = |user: &str| (user.to_owned(), BTreeMap::new());
    assert_eq!(said(&world, &["bob", "cleo"]).await, [nothing("bob"), nothing("cleo")]);
}

async fn a_member_has_8_keys(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    let mut ann = world.user("ann");
    let all: Vec<_> = (0..8).map(|n| n.to_string()).collect();
    let all: Vec<_> = all.iter().map(|key| (key.as_str(), "v")).collect();
    change(&mut ann, update("", &all, &[])).await;
    let ninth = ann.member.update_member_metadata(update("", &[("k", "")], &[])).await;
    violates(ninth, "set");
    let long = "x".repeat(256);
    let swapped = change(&mut ann, update("", &[("k", &long)], &["0"])).await;
    assert!(swapped.len() == 8 && !swapped.contains_key("0"));
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    let mut ann = world.user("ann");
    let first = pb::UpdateMemberMetadataRequest {
        request_id: "r1".to_owned(),
        ..update("", &[("a", "1")], &[])
    };
    assert_eq!(change(&mut ann, first.clone()).await, pairs(&[("a", "1")]));
    change(&mut ann, update("", &[("a", "2")], &[])).await;
    assert_eq!(change(&mut ann, first.clone()).await, pairs(&[("a", "1")]));
    assert_eq!(world.later_events(log).len(), 2);
    let other = pb::UpdateMemberMetadataRequest { set: pairs(&[("a", "3")]), ..first };
    refused(ann.member.update_member_metadata(other).await, Reason::RequestIdReused);
}

async fn members_and_services_read_it(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    change(&mut world.user("bob"), update("", &[("a", "1")], &[])).await;
    for mut client in [world.user("ann"), world.user("bob"), world.service()] {
        let reply = client.member.batch_get_member_metadata(get("den", &["eve", "bob", "ann"]));
        let members = reply.await.expect("metadata").into_inner().members;
        let users: Vec<_> = members.iter().map(|member| member.user_id.as_str()).collect();
        assert_eq!(users, ["bob", "ann"]);
        assert_eq!(members[0].metadata, pairs(&[("a", "1")]));
    }
    let eve = world.user("eve").member.batch_get_member_metadata(get("den", &["bob"])).await;
    refused(eve, Reason::NotAMember);
    let missing = world.user("eve").member.batch_get_member_metadata(get("no", &["bob"])).await;
    refused(missing, Reason::RoomNotFound);
    let mut other = world.service_of("other").member;
    let other = other.batch_get_member_metadata(get("den", &["bob"])).await;
    refused(other, Reason::RoomNotFound);
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    let mut ann = world.user("ann").member;
    for bad in bad_ids() {
        let room = pb::UpdateMemberMetadataRequest {
            room_id: bad.clone(),
            ..update("", &[("a", "1")], &[])
        };
        violates(ann.update_member_metadata(room).await, "room_id");
        violates(ann.batch_get_member_metadata(get(&bad, &["ann"])).await, "room_id");
        violates(ann.batch_get_member_metadata(get("den", &[&bad])).await, "user_ids[0]");
        if !bad.is_empty() {
            let user = update(&bad, &[("a", "1")], &[]);
            violates(ann.update_member_metadata(user).await, "user_id");
        }
    }
    let nine: Vec<_> = (0..9).map(|n| n.to_string()).collect();
    let all: Vec<_> = nine.iter().map(|key| (key.as_str(), "v")).collect();
    let nine: Vec<_> = nine.iter().map(String::as_str).collect();
    let (key, value) = ("k".repeat(65), "v".repeat(257));
    for bad in [
        &[][..],
        &all,
        &[("", "v")],
        &[("a\0", "v")],
        &[("a", "v\0")],
        &[(&*key, "")],
        &[("a", &*value)],
    ] {
        violates(ann.update_member_metadata(update("", bad, &[])).await, "set");
    }
    violates(ann.update_member_metadata(update("", &[], &nine)).await, "delete_keys");
    for bad in ["", "a\0", &key, "a"] {
        let request = update("", &[], &["a", bad]);
        violates(ann.update_member_metadata(request).await, "delete_keys[1]");
    }
    let both = update("", &[("a", "1")], &["a"]);
    violates(ann.update_member_metadata(both).await, "delete_keys[0]");
    violates(ann.batch_get_member_metadata(get("den", &[])).await, "user_ids");
    violates(ann.batch_get_member_metadata(get("den", &["ann", "ann"])).await, "user_ids[1]");
    assert!(world.later_events(log).is_empty(), "nothing changed");
}
