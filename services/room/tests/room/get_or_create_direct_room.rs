//! `GetOrCreateDirectRoom`.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1::JoinRule;
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;

use crate::harness::{Client, Harness, delete, direct, get, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    either_side_finds_the_one_room,
    a_user_who_had_left_is_a_member_again,
    two_who_begin_at_once_get_one_room,
    both_users_must_exist,
    a_service_gives_both_users,
    metadata_counts_at_creation_only,
    pairs_are_kept_apart,
    after_a_deletion_a_new_room_begins,
    what_is_wrong_with_a_request_is_named,
    an_outage_below_is_said,
    tenants_have_their_own_pairs,
);

async fn with(client: &mut Client, user: &str) -> (pb::Room, bool) {
    let reply = client.rooms.get_or_create_direct_room(direct(user)).await.expect("a room");
    let reply = reply.into_inner();
    (reply.room.expect("a room"), reply.created)
}

/// B-004, B-006, B-054, B-197.
async fn either_side_finds_the_one_room(db: Db) {
    let suite = Harness::new(db).await;
    let (room, created) = with(&mut suite.user("ann"), "bob").await;
    assert!(created);
    assert_eq!((room.kind(), room.creator_user_id.as_str()), (RoomKind::Direct, "ann"));
    let settings = room.settings.as_ref().expect("settings");
    assert_eq!((settings.join(), settings.capacity), (JoinRule::AddedOnly, 2));
    let (_, roster) = suite.roster.of(&room.room_id);
    // Neither owns what both share.
    assert_eq!(roster.members["ann"], MemberRole::Member);
    assert_eq!(roster.members["bob"], MemberRole::Member);

    for (user, other) in [("ann", "bob"), ("bob", "ann")] {
        assert_eq!(with(&mut suite.user(user), other).await, (room.clone(), false));
    }
    assert_eq!(suite.roster.state().rosters.len(), 1);
}

/// B-006, B-199.
async fn a_user_who_had_left_is_a_member_again(db: Db) {
    let suite = Harness::new(db).await;
    let (room, _) = with(&mut suite.user("ann"), "bob").await;
    suite.roster.change(&room.room_id, |roster| {
        roster.members.clear();
        roster.removed.insert("bob".to_owned());
    });
    let (again, created) = with(&mut suite.user("ann"), "bob").await;
    assert_eq!((again.room_id.as_str(), created), (room.room_id.as_str(), false));
    let (_, roster) = suite.roster.of(&room.room_id);
    assert_eq!(roster.members.keys().collect::<Vec<_>>(), ["ann", "bob"]);
}

/// B-006.
async fn two_who_begin_at_once_get_one_room(db: Db) {
    let suite = Harness::new(db).await;
    suite.roster.state().users.insert(("acme".to_owned(), "ann".to_owned()));
    let (mut ann, mut bob) = (suite.user("ann"), suite.user("bob"));
    let (one, other) = tokio::join!(with(&mut ann, "bob"), with(&mut bob, "ann"));
    assert_eq!(one.0.room_id, other.0.room_id);
    assert_eq!(usize::from(one.1) + usize::from(other.1), 1, "one of them created it");
    assert_eq!(suite.roster.state().rosters.len(), 1);
}

async fn both_users_must_exist(db: Db) {
    let suite = Harness::new(db).await;
    // Ann comes into being by calling; the other does not.
    let ghost = suite.user("ann").rooms.get_or_create_direct_room(direct("ghost")).await;
    refused(ghost, Reason::UserNotFound);
    assert!(suite.roster.state().rosters.is_empty());
    with(&mut suite.user("ann"), "bob").await;
    assert!(suite.roster.state().users.contains(&("acme".to_owned(), "ann".to_owned())));
}

async fn a_service_gives_both_users(db: Db) {
    let suite = Harness::new(db).await;
    let mut backend = suite.backend();
    let both =
        pb::GetOrCreateDirectRoomRequest { first_user_id: "cid".to_owned(), ..direct("bob") };
    let reply = backend.rooms.get_or_create_direct_room(both.clone()).await.expect("a room");
    let room = reply.into_inner().room.expect("a room");
    assert_eq!(room.creator_user_id, "");
    assert_eq!(with(&mut suite.user("bob"), "cid").await.0.room_id, room.room_id);
    let missing = backend.rooms.get_or_create_direct_room(direct("bob")).await;
    violates(missing, "first_user_id");
    let mut for_ann = suite.service_for("ann");
    violates(for_ann.rooms.get_or_create_direct_room(both.clone()).await, "first_user_id");
    // Nobody comes into being by being named.
    let unknown = pb::GetOrCreateDirectRoomRequest { first_user_id: "ann".to_owned(), ..both };
    let reply = backend.rooms.get_or_create_direct_room(unknown).await;
    refused(reply, Reason::UserNotFound);
}

async fn metadata_counts_at_creation_only(db: Db) {
    let suite = Harness::new(db).await;
    let colored = |color: &str| pb::GetOrCreateDirectRoomRequest {
        metadata: BTreeMap::from([("color".to_owned(), color.to_owned())]),
        ..direct("bob")
    };
    let mut ann = suite.user("ann");
    for color in ["red", "blue"] {
        let reply = ann.rooms.get_or_create_direct_room(colored(color)).await.expect("a room");
        assert_eq!(reply.into_inner().room.expect("a room").metadata["color"], "red");
    }
}

async fn pairs_are_kept_apart(db: Db) {
    let suite = Harness::new(db).await;
    for user in ["b:c", "c"] {
        suite.roster.state().users.insert(("acme".to_owned(), user.to_owned()));
    }
    let (one, _) = with(&mut suite.user("a"), "b:c").await;
    let (other, created) = with(&mut suite.user("a:b"), "c").await;
    assert!(created);
    assert_ne!(one.room_id, other.room_id);
}

async fn after_a_deletion_a_new_room_begins(db: Db) {
    let suite = Harness::new(db).await;
    let (old, _) = with(&mut suite.user("ann"), "bob").await;
    suite.user("bob").rooms.delete_room(delete(&old.room_id, "")).await.expect("deleted");
    let (new, created) = with(&mut suite.user("ann"), "bob").await;
    assert!(created);
    assert_ne!(old.room_id, new.room_id);
    let gone = suite.user("ann").rooms.get_room(get(&old.room_id)).await;
    refused(gone, Reason::RoomNotFound);
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for user in ["", "ann", "a\0"] {
        let reply = ann.rooms.get_or_create_direct_room(direct(user)).await;
        violates(reply, "user_id");
    }
    let metadata = BTreeMap::from([(String::new(), String::new())]);
    let request = pb::GetOrCreateDirectRoomRequest { metadata, ..direct("bob") };
    violates(ann.rooms.get_or_create_direct_room(request).await, "metadata");
}

async fn an_outage_below_is_said(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    with(&mut ann, "bob").await;
    suite.roster.break_rpc("EnsureMembers", Fault::Refuse(Reason::StoreUnavailable));
    let reply = ann.rooms.get_or_create_direct_room(direct("bob")).await;
    refused(reply, Reason::MembershipUnavailable);
    suite.roster.break_rpc("EnsureMembers", Fault::Refuse(Reason::LogUnavailable));
    let reply = ann.rooms.get_or_create_direct_room(direct("bob")).await;
    refused(reply, Reason::LogUnavailable);
}

async fn tenants_have_their_own_pairs(db: Db) {
    let suite = Harness::new(db).await;
    suite.roster.state().users.insert(("other".to_owned(), "bob".to_owned()));
    let (ours, _) = with(&mut suite.user("ann"), "bob").await;
    let mut other = suite.caller("other", Principal::User(UserId::new("ann")));
    let (theirs, created) = with(&mut other, "bob").await;
    assert!(created);
    assert_ne!(ours.room_id, theirs.room_id);
    refused(other.rooms.get_room(get(&ours.room_id)).await, Reason::RoomNotFound);
}
