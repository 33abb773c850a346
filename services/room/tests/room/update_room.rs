//! `UpdateRoom`.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1::{JoinRule, MemberRule};
use parlance_proto::message::v1::{HistoryVisibility, MemberRole, PostRule};
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use prost_types::FieldMask;
use tonic::{Response, Status};

use crate::harness::{Client, Harness, create, direct, get, group, refused, violates};

test_on_each_db!(parlance_room::MIGRATIONS =>
    the_fields_of_the_mask_are_taken,
    rules_reach_the_roster_and_the_log,
    slow_mode_and_windows_reach_the_log,
    only_what_changes_is_told,
    settings_as_a_whole_take_defaults,
    an_etag_guards_against_lost_updates,
    one_of_two_updates_at_once_with_one_etag_wins,
    owners_and_admins_and_services_may,
    owners_and_services_say_how_long_messages_are_kept,
    a_direct_room_has_nothing_to_update,
    a_repeated_request_gets_the_first_reply,
    a_request_id_of_an_earlier_life_is_new_in_the_next,
    what_is_wrong_with_a_request_is_named,
    a_null_character_is_refused_wherever_it_stands,
);

fn request(room: pb::Room, paths: &[&str]) -> pb::UpdateRoomRequest {
    let paths = paths.iter().map(ToString::to_string).collect();
    let update_mask = Some(FieldMask { paths });
    pb::UpdateRoomRequest { room: Some(room), update_mask, ..pb::UpdateRoomRequest::default() }
}

fn named(room_id: &str, name: &str) -> pb::Room {
    let (room_id, name) = (room_id.to_owned(), name.to_owned());
    pb::Room { room_id, name, ..pb::Room::default() }
}

async fn update(client: &mut Client, room: pb::Room, paths: &[&str]) -> pb::Room {
    let reply = client.rooms.update_room(request(room, paths)).await.expect("updated");
    reply.into_inner().room.expect("a room")
}

async fn rename(client: &mut Client, room_id: &str) -> Result<Response<()>, Status> {
    let renamed = client.rooms.update_room(request(named(room_id, "New"), &["name"])).await;
    renamed.map(|_| Response::new(()))
}

/// B-196.
async fn the_fields_of_the_mask_are_taken(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let before = create(&mut ann, group("g", &[])).await;
    suite.clock.advance(1_000_000);
    let wish = pb::Room {
        picture: "p.png".to_owned(),
        description: "About".to_owned(),
        metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        ..named("g", "ignored")
    };

    let after = update(&mut ann, wish, &["picture", "description", "metadata"]).await;

    assert_eq!((after.name.as_str(), after.picture.as_str()), ("Our room", "p.png"));
    assert_eq!((after.description.as_str(), after.metadata["k"].as_str()), ("About", "v"));
    assert_eq!(after.create_time, before.create_time);
    assert_eq!(after.update_time.expect("a time").seconds, 1_800_000_001);
    assert_ne!(after.etag, before.etag);
    let got = ann.rooms.get_room(get("g")).await.expect("there").into_inner();
    assert_eq!(got.room, Some(after));

    let (log_id, _) = suite.roster.of("g");
    let (event, told) = suite.logs.updates(&log_id).remove(0);
    assert_eq!((event.actor_id.as_str(), event.effects), ("ann", None));
    assert_eq!((told.name.as_str(), told.description.as_str()), ("Our room", "About"));
    assert_eq!(told.changed_fields, ["picture", "description", "metadata"]);
}

async fn rules_reach_the_roster_and_the_log(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    let settings = pb::RoomSettings {
        post: PostRule::Admins.into(),
        add: MemberRule::Admins.into(),
        capacity: 3,
        history: HistoryVisibility::SinceJoin.into(),
        ..pb::RoomSettings::default()
    };
    let wish = pb::Room { settings: Some(settings), ..named("g", "") };
    let (log_id, _) = suite.roster.of("g");

    update(&mut ann, wish.clone(), &["settings.add", "settings.capacity"]).await;
    let (_, roster) = suite.roster.of("g");
    assert_eq!((roster.rules.add(), roster.rules.capacity), (MemberRule::Admins, 3));
    assert_eq!(roster.rules.join(), JoinRule::AddedOnly);
    assert_eq!(suite.logs.updates(&log_id)[0].0.effects, None, "the log's rules are the same");

    update(&mut ann, wish, &["settings.post", "settings.history"]).await;
    let (event, told) = suite.logs.updates(&log_id).remove(1);
    let rules = event.effects.expect("effects").rules.expect("rules");
    assert_eq!(rules.post(), PostRule::Admins);
    assert_eq!(rules.history(), HistoryVisibility::SinceJoin);
    assert_eq!(told.changed_fields, ["settings.post", "settings.history"]);
    assert_eq!(suite.roster.calls("SetRosterRules"), 1);
}

/// B-053, B-107.
async fn slow_mode_and_windows_reach_the_log(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let settings = pb::RoomSettings { slow_mode: seconds(5), ..pb::RoomSettings::default() };
    let new = pb::CreateRoomRequest { settings: Some(settings), ..group("g", &[]) };
    create(&mut ann, new).await;
    let (log_id, roster) = suite.roster.of("g");
    let rules = roster.created.effects.expect("effects").rules.expect("rules");
    assert_eq!((rules.slow_mode, rules.edit_window, rules.delete_window), (seconds(5), None, None));

    let settings = pb::RoomSettings {
        slow_mode: seconds(0),
        edit_window: seconds(900),
        delete_window: seconds(120),
        ..pb::RoomSettings::default()
    };
    let wish = pb::Room { settings: Some(settings), ..named("g", "") };
    let paths = ["settings.slow_mode", "settings.edit_window", "settings.delete_window"];
    let after = update(&mut ann, wish, &paths).await.settings.expect("settings");
    let (event, told) = suite.logs.updates(&log_id).remove(0);
    let rules = event.effects.expect("effects").rules.expect("rules");
    for windows in [
        (after.slow_mode, after.edit_window, after.delete_window),
        (rules.slow_mode, rules.edit_window, rules.delete_window),
    ] {
        assert_eq!(windows, (None, seconds(900), seconds(120)));
    }
    assert_eq!(told.changed_fields, paths);
    for path in paths {
        let settings = pb::RoomSettings {
            slow_mode: seconds(21_601),
            edit_window: Some(prost_types::Duration { seconds: 1, nanos: 1 }),
            delete_window: seconds(-1),
            ..pb::RoomSettings::default()
        };
        let wish = pb::Room { settings: Some(settings), ..named("g", "") };
        let wrong = ann.rooms.update_room(request(wish, &[path])).await;
        violates(wrong, &format!("room.{path}"));
    }
}

async fn only_what_changes_is_told(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let before = create(&mut ann, group("g", &[])).await;
    let same = update(&mut ann, named("g", "Our room"), &["name", "picture"]).await;
    assert_eq!(same, before);
    let (log_id, _) = suite.roster.of("g");
    assert!(suite.logs.updates(&log_id).is_empty());
    update(&mut ann, named("g", "New"), &["name", "picture", "name"]).await;
    assert_eq!(suite.logs.updates(&log_id)[0].1.changed_fields, ["name"]);
}

async fn settings_as_a_whole_take_defaults(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let settings = pb::RoomSettings { capacity: 5, ..pb::RoomSettings::default() };
    let new = pb::CreateRoomRequest { settings: Some(settings), ..group("g", &[]) };
    create(&mut ann, new).await;
    let settings = pb::RoomSettings { allow_preview: true, ..pb::RoomSettings::default() };
    let wish = pb::Room { settings: Some(settings), ..named("g", "") };
    let after = update(&mut ann, wish, &["settings"]).await.settings.expect("settings");
    assert_eq!((after.capacity, after.allow_preview), (1000, true));
}

async fn an_etag_guards_against_lost_updates(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let read = create(&mut ann, group("g", &[])).await;
    let mine = pb::Room { name: "Mine".to_owned(), ..read.clone() };
    update(&mut ann, mine, &["name"]).await;
    let late = pb::Room { name: "Late".to_owned(), ..read.clone() };
    let reply = ann.rooms.update_room(request(late, &["name"])).await;
    refused(reply, Reason::EtagMismatch);
    // Nor does an etag of an earlier life of the id hold.
    ann.rooms.delete_room(crate::harness::delete("g", "")).await.expect("deleted");
    create(&mut ann, group("g", &[])).await;
    let reply = ann.rooms.update_room(request(read, &["name"])).await;
    refused(reply, Reason::EtagMismatch);
}

async fn one_of_two_updates_at_once_with_one_etag_wins(db: Db) {
    let suite = Harness::new(db).await;
    let read = create(&mut suite.user("ann"), group("g", &[])).await;
    let with = |name: &str| request(pb::Room { name: name.to_owned(), ..read.clone() }, &["name"]);
    let (mut one, mut other) = (suite.user("ann"), suite.backend());
    let (one, other) =
        tokio::join!(one.rooms.update_room(with("One")), other.rooms.update_room(with("Other")));
    assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
    refused(if one.is_err() { one } else { other }, Reason::EtagMismatch);
}

async fn owners_and_admins_and_services_may(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &["bob", "cid"])).await;
    suite.roster.change("g", |roster| {
        roster.members.insert("cid".to_owned(), MemberRole::Admin);
    });
    refused(rename(&mut suite.user("bob"), "g").await, Reason::NotAllowed);
    refused(rename(&mut suite.user("eve"), "g").await, Reason::NotAMember);
    refused(rename(&mut suite.user("ann"), "h").await, Reason::RoomNotFound);
    let mut for_bob = suite.service_for("bob");
    refused(rename(&mut for_bob, "g").await, Reason::NotAllowed);
    let mut other = suite.caller("other", Principal::Service);
    refused(rename(&mut other, "g").await, Reason::RoomNotFound);
    for mut client in [suite.user("ann"), suite.user("cid"), suite.backend()] {
        rename(&mut client, "g").await.expect("renamed");
    }
}

async fn owners_and_services_say_how_long_messages_are_kept(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &["cid"])).await;
    suite.roster.change("g", |roster| {
        roster.members.insert("cid".to_owned(), MemberRole::Admin);
    });
    let kept = |seconds| {
        let retention = Some(prost_types::Duration { seconds, nanos: 0 });
        let settings = Some(pb::RoomSettings { retention, ..pb::RoomSettings::default() });
        pb::Room { settings, ..named("g", "") }
    };
    let path = &["settings.retention"];
    let (log_id, _) = suite.roster.of("g");
    let told = || {
        let (event, _) = suite.logs.updates(&log_id).pop().expect("an update");
        event.effects.expect("effects").rules.expect("rules").retention
    };
    for (mut client, seconds) in [(suite.user("ann"), 3600), (suite.backend(), 60)] {
        let after = update(&mut client, kept(seconds), path).await.settings.expect("settings");
        assert_eq!(after.retention.map(|time| time.seconds), Some(seconds));
        assert_eq!(told(), after.retention);
        let got = client.rooms.get_room(get("g")).await.expect("there").into_inner().room;
        assert_eq!(got.and_then(|room| room.settings), Some(after));
    }
    let mut cid = suite.user("cid");
    refused(cid.rooms.update_room(request(kept(120), path)).await, Reason::NotAllowed);
    // As it is, it may be said again.
    cid.rooms.update_room(request(kept(60), path)).await.expect("no change");
    for bad in [1, -60] {
        let result = suite.user("ann").rooms.update_room(request(kept(bad), path)).await;
        violates(result, "room.settings.retention");
    }
    let after = update(&mut suite.user("ann"), kept(0), path).await.settings.expect("settings");
    assert_eq!((after.retention, told()), (None, None));
}

async fn a_direct_room_has_nothing_to_update(db: Db) {
    let suite = Harness::new(db).await;
    let found = suite.user("ann").rooms.get_or_create_direct_room(direct("bob")).await;
    let room_id = found.expect("created").into_inner().room.expect("a room").room_id;
    for mut client in [suite.user("ann"), suite.user("bob"), suite.backend()] {
        refused(rename(&mut client, &room_id).await, Reason::DirectRoom);
    }
    refused(rename(&mut suite.user("cid"), &room_id).await, Reason::RoomNotFound);
}

async fn a_repeated_request_gets_the_first_reply(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let read = create(&mut ann, group("g", &[])).await;
    let wish = pb::Room { name: "First".to_owned(), ..read };
    let request = pb::UpdateRoomRequest { request_id: "r1".to_owned(), ..request(wish, &["name"]) };
    let mut twin = suite.user("ann");
    let (one, other) = tokio::join!(
        ann.rooms.update_room(request.clone()),
        twin.rooms.update_room(request.clone())
    );
    let first = one.expect("updated").into_inner();
    assert_eq!(other.expect("updated").into_inner(), first);
    update(&mut ann, named("g", "Second"), &["name"]).await;
    // The caller may no longer update, and the etag is old: it is a repeat.
    suite.roster.change("g", |roster| roster.members.clear());
    let repeat = ann.rooms.update_room(request.clone()).await.expect("a repeat").into_inner();
    assert_eq!(repeat, first);
    let mut changed = request;
    changed.room.as_mut().expect("a room").name = "Third".into();
    refused(ann.rooms.update_room(changed).await, Reason::RequestIdReused);
    let now = suite.backend().rooms.get_room(get("g")).await.expect("there").into_inner();
    assert_eq!(now.room.expect("a room").name, "Second");
}

async fn a_request_id_of_an_earlier_life_is_new_in_the_next(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let wish = named("g", "New");
    let request = pb::UpdateRoomRequest { request_id: "r1".to_owned(), ..request(wish, &["name"]) };
    for _ in 0..2 {
        create(&mut ann, group("g", &[])).await;
        let updated = ann.rooms.update_room(request.clone()).await.expect("updated").into_inner();
        let got = ann.rooms.get_room(get("g")).await.expect("there").into_inner();
        assert_eq!(
            (&got.room, got.room.as_ref().map(|room| &*room.name)),
            (&updated.room, Some("New"))
        );
        let repeat = ann.rooms.update_room(request.clone()).await.expect("a repeat").into_inner();
        assert_eq!(repeat, updated);
        ann.rooms.delete_room(crate::harness::delete("g", "")).await.expect("deleted");
        // The room as it is now is none.
        refused(ann.rooms.update_room(request.clone()).await, Reason::RoomNotFound);
    }
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    for paths in [&[] as &[&str], &["room_id"], &["name", "kind"], &["settings.nope"], &["*"]] {
        let reply = ann.rooms.update_room(request(named("g", "New"), paths)).await;
        violates(reply, "update_mask");
    }
    violates(ann.rooms.update_room(pb::UpdateRoomRequest::default()).await, "room");
    let too_long = "x".repeat(129);
    for bad in ["", "g\0", "g\n", &too_long] {
        let reply = ann.rooms.update_room(request(named(bad, "New"), &["name"])).await;
        violates(reply, "room.room_id");
    }
    let long = named("g", &"x".repeat(257));
    violates(ann.rooms.update_room(request(long.clone(), &["name"])).await, "room.name");
    ann.rooms.update_room(request(long, &["picture"])).await.expect("the name is not looked at");
    let settings = Some(pb::RoomSettings { capacity: -1, ..pb::RoomSettings::default() });
    let wish = pb::Room { settings, ..named("g", "") };
    let reply = ann.rooms.update_room(request(wish.clone(), &["settings"])).await;
    violates(reply, "room.settings.capacity");
    ann.rooms.update_room(request(wish, &["settings.post"])).await.expect("only post is looked at");
    for bad in ["r\0", "r\n", &too_long] {
        let mut wish = request(named("g", "New"), &["name"]);
        wish.request_id = bad.to_owned();
        violates(ann.rooms.update_room(wish).await, "request_id");
    }
}

/// B-186.
async fn a_null_character_is_refused_wherever_it_stands(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let before = create(&mut ann, group("g", &[])).await;
    let bad = || "a\0b".to_owned();
    let pair = |key: String, value: String| BTreeMap::from([(key, value)]);
    let base = || named("g", "New");
    for (room, path) in [
        (pb::Room { name: bad(), ..base() }, "name"),
        (pb::Room { picture: bad(), ..base() }, "picture"),
        (pb::Room { description: bad(), ..base() }, "description"),
        (pb::Room { metadata: pair(bad(), "v".to_owned()), ..base() }, "metadata"),
        (pb::Room { metadata: pair("k".to_owned(), bad()), ..base() }, "metadata"),
    ] {
        let reply = ann.rooms.update_room(request(room, &[path])).await;
        violates(reply, &format!("room.{path}"));
    }
    let room = pb::Room { etag: bad(), ..base() };
    violates(ann.rooms.update_room(request(room, &["name"])).await, "room.etag");
    violates(ann.rooms.update_room(request(base(), &["name\0"])).await, "update_mask");
    let now = ann.rooms.get_room(get("g")).await.expect("there").into_inner().room;
    assert_eq!(now, Some(before), "nothing changed");
}
