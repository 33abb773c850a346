//! `GetOrCreateChannel`.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1::JoinRule;
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;

use crate::harness::{Client, Harness, channel, create, group, refused, violates};

test_on_each_db!(parlance_room::MIGRATIONS =>
    the_first_caller_owns_a_new_channel_alone,
    later_callers_join_the_one_channel,
    many_who_begin_at_once_get_one_channel,
    a_name_given_later_is_taken_over_from_who_may_update,
    a_removed_user_is_refused,
    a_full_channel_is_refused,
    a_channel_of_added_members_lets_only_those_in,
    a_service_creates_and_finds_without_joining,
    what_is_wrong_with_a_request_is_named,
    tenants_have_their_own_channels,
);

async fn enter(client: &mut Client, request: pb::GetOrCreateChannelRequest) -> (pb::Room, bool) {
    let reply = client.rooms.get_or_create_channel(request).await.expect("a room").into_inner();
    (reply.room.expect("a room"), reply.created)
}

fn named(name: &str) -> pb::GetOrCreateChannelRequest {
    pb::GetOrCreateChannelRequest { name: name.to_owned(), ..channel("news") }
}

/// B-004, B-010, B-015.
async fn the_first_caller_owns_a_new_channel_alone(db: Db) {
    let suite = Harness::new(db).await;
    let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let request = pb::GetOrCreateChannelRequest { metadata, ..named("News") };
    let (room, created) = enter(&mut suite.user("ann"), request).await;
    assert!(created);
    assert_eq!((room.kind(), room.unique_id.as_str()), (RoomKind::Channel, "news"));
    assert_eq!((room.name.as_str(), room.metadata["k"].as_str()), ("News", "v"));
    let (_, roster) = suite.roster.of(&room.room_id);
    assert_eq!(roster.members, BTreeMap::from([("ann".to_owned(), MemberRole::Owner)]));
    assert_eq!(roster.rules.join(), JoinRule::Anyone);
}

/// B-010, B-015, B-197.
async fn later_callers_join_the_one_channel(db: Db) {
    let suite = Harness::new(db).await;
    let (first, _) = enter(&mut suite.user("ann"), channel("news")).await;
    for _ in 0..2 {
        let (found, created) = enter(&mut suite.user("bob"), channel("news")).await;
        assert_eq!((&found, created), (&first, false));
    }
    let (_, roster) = suite.roster.of(&first.room_id);
    assert_eq!(roster.members["bob"], MemberRole::Member);
    assert_eq!(roster.members["ann"], MemberRole::Owner);
}

/// B-010.
async fn many_who_begin_at_once_get_one_channel(db: Db) {
    let suite = Harness::new(db).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..6 {
        let mut client = suite.user(&format!("u{n}"));
        calls.spawn(async move { enter(&mut client, channel("news")).await });
    }
    let found = calls.join_all().await;
    assert_eq!(found.iter().filter(|(_, created)| *created).count(), 1);
    assert!(found.iter().all(|(room, _)| room.room_id == found[0].0.room_id));
    let (_, roster) = suite.roster.of(&found[0].0.room_id);
    assert_eq!(roster.members.len(), 6);
    assert_eq!(suite.roster.state().rosters.len(), 1);
}

/// B-011.
async fn a_name_given_later_is_taken_over_from_who_may_update(db: Db) {
    let suite = Harness::new(db).await;
    let (room, _) = enter(&mut suite.user("ann"), channel("news")).await;
    assert_eq!(room.name, "");
    assert_eq!(enter(&mut suite.user("bob"), named("Mine")).await.0.name, "");
    assert_eq!(enter(&mut suite.user("ann"), named("News")).await.0.name, "News");
    // Nothing given changes nothing, and the same again tells the log nothing.
    assert_eq!(enter(&mut suite.user("ann"), channel("news")).await.0.name, "News");
    enter(&mut suite.user("ann"), named("News")).await;
    let picture = "p.png".to_owned();
    let request = pb::GetOrCreateChannelRequest { picture, ..channel("news") };
    let (room, _) = enter(&mut suite.backend(), request).await;
    assert_eq!((room.name.as_str(), room.picture.as_str()), ("News", "p.png"));

    let (log_id, _) = suite.roster.of(&room.room_id);
    let updates = suite.logs.updates(&log_id);
    let told: Vec<_> =
        updates.iter().map(|(event, update)| (&*event.actor_id, &*update.changed_fields)).collect();
    assert_eq!(
        told,
        [("ann", &["name".to_owned()] as &[_]), ("", &["picture".to_owned()] as &[_])]
    );
}

async fn a_removed_user_is_refused(db: Db) {
    let suite = Harness::new(db).await;
    let (room, _) = enter(&mut suite.user("ann"), channel("news")).await;
    suite.roster.change(&room.room_id, |roster| {
        roster.removed.insert("bob".to_owned());
    });
    let reply = suite.user("bob").rooms.get_or_create_channel(channel("news")).await;
    refused(reply, Reason::RemovedFromRoom);
}

async fn a_full_channel_is_refused(db: Db) {
    let suite = Harness::new(db).await;
    let request = pb::CreateRoomRequest {
        kind: RoomKind::Channel.into(),
        unique_id: "news".to_owned(),
        settings: Some(pb::RoomSettings { capacity: 1, ..pb::RoomSettings::default() }),
        ..group("", &[])
    };
    create(&mut suite.user("ann"), request).await;
    let reply = suite.user("bob").rooms.get_or_create_channel(channel("news")).await;
    refused(reply, Reason::RoomFull);
}

async fn a_channel_of_added_members_lets_only_those_in(db: Db) {
    let suite = Harness::new(db).await;
    for (unique_id, join) in [("news", JoinRule::AddedOnly), ("club", JoinRule::Request)] {
        let join = join.into();
        let request = pb::CreateRoomRequest {
            kind: RoomKind::Channel.into(),
            unique_id: unique_id.to_owned(),
            settings: Some(pb::RoomSettings { join, ..pb::RoomSettings::default() }),
            ..group("", &["bob"])
        };
        let room = create(&mut suite.user("ann"), request).await;
        assert_eq!(room.settings.expect("settings").join, join);
        assert_eq!(suite.roster.of(&room.room_id).1.rules.join, join);
        enter(&mut suite.user("bob"), channel(unique_id)).await;
        let reply = suite.user("cid").rooms.get_or_create_channel(channel(unique_id)).await;
        refused(reply, Reason::JoinRestricted);
    }
}

async fn a_service_creates_and_finds_without_joining(db: Db) {
    let suite = Harness::new(db).await;
    let (room, created) = enter(&mut suite.backend(), channel("news")).await;
    assert!(created);
    let (found, created) = enter(&mut suite.backend(), channel("news")).await;
    assert_eq!((found.room_id, created), (room.room_id.clone(), false));
    assert!(suite.roster.of(&room.room_id).1.members.is_empty());
}

/// B-012.
async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for unique_id in ["", "a#b", "a+b", "a\0", &"x".repeat(129)] {
        let reply = ann.rooms.get_or_create_channel(channel(unique_id)).await;
        violates(reply, "unique_id");
    }
    violates(ann.rooms.get_or_create_channel(named(&"x".repeat(257))).await, "name");
    let picture = "x".repeat(2049);
    let request = pb::GetOrCreateChannelRequest { picture, ..channel("news") };
    violates(ann.rooms.get_or_create_channel(request).await, "picture");
}

async fn tenants_have_their_own_channels(db: Db) {
    let suite = Harness::new(db).await;
    let (ours, _) = enter(&mut suite.user("ann"), channel("news")).await;
    let mut other = suite.caller("other", Principal::User(UserId::new("ann")));
    let (theirs, created) = enter(&mut other, channel("news")).await;
    assert!(created);
    assert_ne!(ours.room_id, theirs.room_id);
}
