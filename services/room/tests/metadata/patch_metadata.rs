//! `PatchMetadata`.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1::MemberRule;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, MemberRole, MetadataPatched};
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::key_patch::Action;
use parlance_rpc::{Principal, Reason};
use prost_types::FieldMask;
use tonic::{Response, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, Harness, create, delete, direct, get, group, refused, violates};

test_on_each_db!(parlance_room::MIGRATIONS =>
    keys_are_set_and_deleted_in_one_event,
    what_changes_nothing_is_no_event,
    members_change_what_is_theirs_where_the_rule_lets_them,
    a_condition_that_does_not_hold_refuses_the_whole_patch,
    a_partial_patch_names_what_it_refused,
    of_two_at_once_who_want_an_absent_key_one_gets_it,
    metadata_has_32_keys_and_8_kib,
    an_update_owns_what_it_changes,
    owners_and_admins_and_services_may,
    a_direct_room_has_no_metadata_to_patch,
    a_repeated_request_gets_the_first_reply,
    an_outage_of_the_log_is_overcome_by_a_retry,
    what_is_wrong_with_a_request_is_named,
);

fn set(key: &str, value: &str) -> pb::KeyPatch {
    let action = Some(Action::Set(value.to_owned()));
    pb::KeyPatch { key: key.to_owned(), action, ..pb::KeyPatch::default() }
}

fn gone(key: &str) -> pb::KeyPatch {
    let action = Some(Action::Delete(true));
    pb::KeyPatch { key: key.to_owned(), action, ..pb::KeyPatch::default() }
}

fn request(patches: &[pb::KeyPatch]) -> pb::PatchMetadataRequest {
    let (room_id, patches) = ("g".to_owned(), patches.to_vec());
    pb::PatchMetadataRequest { room_id, patches, ..pb::PatchMetadataRequest::default() }
}

async fn try_patch(
    client: &Client,
    patches: &[pb::KeyPatch],
) -> Result<Response<pb::PatchMetadataResponse>, Status> {
    client.metadata.clone().patch_metadata(request(patches)).await
}

async fn patch(client: &Client, patches: &[pb::KeyPatch]) -> pb::PatchMetadataResponse {
    try_patch(client, patches).await.expect("patched").into_inner()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A group of Ann, Bob and Cid in which every member may patch.
async fn open_group(suite: &Harness) {
    let settings = pb::RoomSettings { metadata: MemberRule::Members.into(), ..Default::default() };
    let new = pb::CreateRoomRequest { settings: Some(settings), ..group("g", &["bob", "cid"]) };
    create(&mut suite.user("ann"), new).await;
}

/// What the log of the group was told of its metadata.
fn told(suite: &Harness) -> Vec<(Event, MetadataPatched)> {
    let (log_id, _) = suite.roster.of("g");
    let events = suite.logs.state().events.get(&log_id).cloned().unwrap_or_default();
    let patched = |event: Event| match event.body.clone() {
        Some(Body::MetadataPatched(patched)) => Some((event, patched)),
        _ => None,
    };
    events.into_iter().filter_map(patched).collect()
}

/// The refusal of a key.
fn key_refused(reply: Result<Response<pb::PatchMetadataResponse>, Status>, key: &str, why: &str) {
    let status = refused(reply, Reason::MetadataConflict);
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((&*info.metadata["key"], &*info.metadata["refusal"]), (key, why));
}

/// B-031.
async fn keys_are_set_and_deleted_in_one_event(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let new = pb::CreateRoomRequest {
        metadata: pairs(&[("a", "1"), ("b", "1"), ("c", "1")]),
        ..group("g", &[])
    };
    let before = create(&mut ann, new).await;

    let reply = patch(&ann, &[set("d", "4"), gone("a"), set("b", "2")]).await;

    assert_eq!(reply.metadata, pairs(&[("b", "2"), ("c", "1"), ("d", "4")]));
    assert!(reply.refused.is_empty() && reply.etag != before.etag);
    let room = ann.rooms.get_room(get("g")).await.expect("there").into_inner().room;
    let room = room.expect("a room");
    assert_eq!((&room.metadata, &room.etag), (&reply.metadata, &reply.etag));
    let (event, patched) = told(&suite).remove(0);
    assert_eq!((event.actor_id.as_str(), event.effects), ("ann", None));
    assert_eq!(patched.set, pairs(&[("b", "2"), ("d", "4")]));
    assert_eq!(patched.deleted_keys, ["a"]);
}

async fn what_changes_nothing_is_no_event(db: Db) {
    let suite = Harness::new(db).await;
    let ann = suite.user("ann");
    open_group(&suite).await;
    let first = patch(&ann, &[set("k", "v")]).await;
    let same = patch(&ann, &[set("k", "v"), gone("absent")]).await;
    assert_eq!((same, told(&suite).len()), (first, 1));
    // The same value from somebody else: the key is theirs now.
    patch(&suite.backend(), &[set("k", "v")]).await;
    assert_eq!(told(&suite)[1].0.actor_id, "");
    patch(&suite.user("bob"), &[set("k", "v")]).await;
    assert_eq!(told(&suite).len(), 3);
    key_refused(try_patch(&suite.user("cid"), &[gone("k")]).await, "k", "NOT_MINE");
}

/// B-031.
async fn members_change_what_is_theirs_where_the_rule_lets_them(db: Db) {
    let suite = Harness::new(db).await;
    let (ann, bob) = (suite.user("ann"), suite.user("bob"));
    create(&mut suite.user("ann"), group("g", &["bob"])).await;
    refused(try_patch(&bob, &[set("k", "v")]).await, Reason::NotAllowed);
    let settings = pb::RoomSettings { metadata: MemberRule::Members.into(), ..Default::default() };
    let (room_id, settings) = ("g".to_owned(), Some(settings));
    let update = pb::UpdateRoomRequest {
        room: Some(pb::Room { room_id, settings, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["settings.metadata".to_owned()] }),
        ..Default::default()
    };
    let updated = ann.rooms.clone().update_room(update).await.expect("updated").into_inner();
    let settings = updated.room.expect("a room").settings.expect("settings");
    assert_eq!(settings.metadata(), MemberRule::Members);

    patch(&ann, &[set("ann's", "1")]).await;
    patch(&bob, &[set("bob's", "1"), set("both", "1")]).await;
    key_refused(try_patch(&bob, &[set("k", "v"), set("ann's", "2")]).await, "ann's", "NOT_MINE");
    key_refused(try_patch(&bob, &[gone("ann's")]).await, "ann's", "NOT_MINE");
    // Ann owns the room, and from now on the key.
    patch(&ann, &[set("both", "2")]).await;
    key_refused(try_patch(&bob, &[set("both", "3")]).await, "both", "NOT_MINE");
    let reply = patch(&bob, &[gone("bob's")]).await;
    assert_eq!(reply.metadata, pairs(&[("ann's", "1"), ("both", "2")]));
}

async fn a_condition_that_does_not_hold_refuses_the_whole_patch(db: Db) {
    let suite = Harness::new(db).await;
    let ann = suite.user("ann");
    open_group(&suite).await;
    patch(&suite.user("bob"), &[set("bob's", "1")]).await;
    let value_is = |value: &str| Some(value.to_owned());
    for (key, why) in [
        (pb::KeyPatch { if_mine: true, ..set("bob's", "2") }, "NOT_MINE"),
        (pb::KeyPatch { if_absent: true, ..set("bob's", "2") }, "PRESENT"),
        (pb::KeyPatch { if_value: value_is("2"), ..gone("bob's") }, "OTHER_VALUE"),
        (pb::KeyPatch { if_value: value_is(""), ..set("bob's", "2") }, "OTHER_VALUE"),
    ] {
        key_refused(try_patch(&ann, &[set("k", "v"), key, set("l", "v")]).await, "bob's", why);
    }
    assert_eq!(told(&suite).len(), 1, "nothing changed");
    let swap = pb::KeyPatch { if_value: value_is("1"), ..set("bob's", "2") };
    let take = pb::KeyPatch { if_absent: true, if_mine: true, ..set("k", "v") };
    let reply = patch(&ann, &[swap, take]).await;
    assert_eq!(reply.metadata, pairs(&[("bob's", "2"), ("k", "v")]));
}

/// B-031.
async fn a_partial_patch_names_what_it_refused(db: Db) {
    let suite = Harness::new(db).await;
    open_group(&suite).await;
    patch(&suite.user("ann"), &[set("ann's", "1"), set("big", &"x".repeat(1024))]).await;
    let seven: Vec<_> = (0..7).map(|n| set(&format!("k{n}"), &"x".repeat(1000))).collect();
    let patches = [&[set("ann's", "2"), gone("absent")], &*seven, &[set("z", "v")]].concat();
    let partial = pb::PatchMetadataRequest { partial: true, ..request(&patches) };
    let bob = suite.user("bob");
    let reply = bob.metadata.clone().patch_metadata(partial).await.expect("in part").into_inner();
    let refused: Vec<_> = reply.refused.iter().map(|key| (&*key.key, key.refusal())).collect();
    assert_eq!(refused, [("ann's", pb::KeyRefusal::NotMine)]);
    assert_eq!((reply.metadata.len(), &*reply.metadata["ann's"]), (10, "1"));

    let more = [set("w", &"x".repeat(200)), set("y", "")];
    let partial = pb::PatchMetadataRequest { partial: true, ..request(&more) };
    let reply = bob.metadata.clone().patch_metadata(partial).await.expect("in part").into_inner();
    let refused: Vec<_> = reply.refused.iter().map(|key| (&*key.key, key.refusal())).collect();
    assert_eq!(refused, [("w", pb::KeyRefusal::Full)]);
    assert!(reply.metadata.contains_key("y"));
    assert_eq!(told(&suite)[2].1.set, pairs(&[("y", "")]));
}

async fn of_two_at_once_who_want_an_absent_key_one_gets_it(db: Db) {
    let suite = Harness::new(db).await;
    open_group(&suite).await;
    for seat in 0..5 {
        let take = |user: &str| [pb::KeyPatch { if_absent: true, ..set(&seat.to_string(), user) }];
        let (bob, cid) = (suite.user("bob"), suite.user("cid"));
        let (bobs, cids) = (take("bob"), take("cid"));
        let (one, other) = tokio::join!(try_patch(&bob, &bobs), try_patch(&cid, &cids));
        assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
        refused(if one.is_err() { one } else { other }, Reason::MetadataConflict);
    }
}

/// B-030.
async fn metadata_has_32_keys_and_8_kib(db: Db) {
    let suite = Harness::new(db).await;
    let ann = suite.user("ann");
    open_group(&suite).await;
    let all: Vec<_> = (0..32).map(|n| set(&format!("{n:0>64}"), &"x".repeat(192))).collect();
    patch(&ann, &all).await;
    let (last, one) = (format!("{:0>64}", 31), format!("{:0>64}", 1));
    refused(try_patch(&ann, &[set("k", "")]).await, Reason::MetadataFull);
    refused(try_patch(&ann, &[set(&last, &"x".repeat(193))]).await, Reason::MetadataFull);
    // What goes makes room for what comes, wherever it stands.
    let swapped = patch(&ann, &[set(&last, &"x".repeat(193)), set(&one, "")]).await;
    assert_eq!(swapped.metadata.len(), 32);
    let swapped = patch(&ann, &[set("k", ""), gone(&one)]).await;
    assert!(swapped.metadata.contains_key("k") && swapped.metadata.len() == 32);
}

async fn an_update_owns_what_it_changes(db: Db) {
    let suite = Harness::new(db).await;
    open_group(&suite).await;
    let bob = suite.user("bob");
    patch(&bob, &[set("a", "1"), set("b", "1"), set("c", "1")]).await;
    let (room_id, metadata) = ("g".to_owned(), pairs(&[("a", "1"), ("b", "2")]));
    let update = pb::UpdateRoomRequest {
        room: Some(pb::Room { room_id, metadata, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["metadata".to_owned()] }),
        ..Default::default()
    };
    suite.user("ann").rooms.update_room(update).await.expect("updated");
    key_refused(try_patch(&bob, &[set("b", "3")]).await, "b", "NOT_MINE");
    patch(&suite.user("cid"), &[set("c", "of Cid")]).await;
    patch(&bob, &[set("a", "2")]).await;
}

async fn owners_and_admins_and_services_may(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &["bob", "cid"])).await;
    suite.roster.change("g", |roster| {
        roster.members.insert("cid".to_owned(), MemberRole::Admin);
    });
    let patches = [set("k", "v")];
    refused(try_patch(&suite.user("bob"), &patches).await, Reason::NotAllowed);
    refused(try_patch(&suite.user("eve"), &patches).await, Reason::NotAMember);
    refused(try_patch(&suite.service_for("bob"), &patches).await, Reason::NotAllowed);
    let mut nowhere = request(&patches);
    nowhere.room_id = "nowhere".into();
    let missing = suite.user("eve").metadata.patch_metadata(nowhere).await;
    let missing = refused(missing, Reason::RoomNotFound);
    let other = suite.caller("other", Principal::Service);
    let foreign = refused(try_patch(&other, &patches).await, Reason::RoomNotFound);
    assert_eq!((missing.message(), missing.details()), (foreign.message(), foreign.details()));
    let operator = suite.caller("acme", Principal::Operator);
    for client in [suite.user("ann"), suite.user("cid"), suite.backend(), operator] {
        patch(&client, &patches).await;
    }
}

async fn a_direct_room_has_no_metadata_to_patch(db: Db) {
    let suite = Harness::new(db).await;
    let found = suite.user("ann").rooms.get_or_create_direct_room(direct("bob")).await;
    let room_id = found.expect("created").into_inner().room.expect("a room").room_id;
    let request = pb::PatchMetadataRequest { room_id, ..request(&[set("k", "v")]) };
    for mut client in [suite.user("ann"), suite.backend()] {
        refused(client.metadata.patch_metadata(request.clone()).await, Reason::DirectRoom);
    }
    refused(suite.user("cid").metadata.patch_metadata(request).await, Reason::RoomNotFound);
}

async fn a_repeated_request_gets_the_first_reply(db: Db) {
    let suite = Harness::new(db).await;
    open_group(&suite).await;
    let take = pb::KeyPatch { if_absent: true, ..set("seat", "ann") };
    let request = pb::PatchMetadataRequest { request_id: "r1".to_owned(), ..request(&[take]) };
    let (mut ann, mut twin) = (suite.user("ann"), suite.user("ann"));
    let (one, other) = tokio::join!(
        ann.metadata.patch_metadata(request.clone()),
        twin.metadata.patch_metadata(request.clone())
    );
    let first = one.expect("patched").into_inner();
    assert_eq!(other.expect("patched").into_inner(), first);
    patch(&ann, &[set("other", "v")]).await;
    suite.roster.change("g", |roster| roster.members.clear());
    let repeat = ann.metadata.patch_metadata(request.clone()).await.expect("a repeat");
    assert_eq!((repeat.into_inner(), told(&suite).len()), (first, 2));
    let mut changed = request.clone();
    changed.partial = true;
    refused(ann.metadata.patch_metadata(changed).await, Reason::RequestIdReused);
    suite.backend().rooms.delete_room(delete("g", "")).await.expect("deleted");
    refused(ann.metadata.patch_metadata(request).await, Reason::RoomNotFound);
}

async fn an_outage_of_the_log_is_overcome_by_a_retry(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    open_group(&suite).await;
    suite.logs.state().down = true;
    let request =
        pb::PatchMetadataRequest { request_id: "r1".to_owned(), ..request(&[set("k", "v")]) };
    let reply = ann.metadata.patch_metadata(request.clone()).await;
    refused(reply, Reason::LogUnavailable);
    suite.logs.state().down = false;
    ann.metadata.patch_metadata(request).await.expect("patched");
    assert_eq!(told(&suite).len(), 1);
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let ann = suite.user("ann");
    open_group(&suite).await;
    violates(try_patch(&ann, &[]).await, "patches");
    let many: Vec<_> = (0..33).map(|n| gone(&n.to_string())).collect();
    violates(try_patch(&ann, &many).await, "patches");
    violates(try_patch(&ann, &[set("k", "v"), gone("k")]).await, "patches[1].key");
    for bad in ["", "k\0", &"k".repeat(65)] {
        violates(try_patch(&ann, &[gone("k"), set(bad, "v")]).await, "patches[1].key");
    }
    for bad in ["v\0", &"v".repeat(1025)] {
        violates(try_patch(&ann, &[set("k", bad)]).await, "patches[0].set");
        let value = pb::KeyPatch { if_value: Some(bad.to_owned()), ..gone("k") };
        violates(try_patch(&ann, &[value]).await, "patches[0].if_value");
    }
    let nothing = pb::KeyPatch { action: None, ..set("k", "v") };
    violates(try_patch(&ann, &[nothing]).await, "patches[0].action");
    let not = pb::KeyPatch { action: Some(Action::Delete(false)), ..set("k", "v") };
    violates(try_patch(&ann, &[not]).await, "patches[0].delete");
    for absurd in [
        pb::KeyPatch { if_absent: true, ..gone("k") },
        pb::KeyPatch { if_absent: true, if_value: Some(String::new()), ..set("k", "v") },
    ] {
        violates(try_patch(&ann, &[absurd]).await, "patches[0].if_absent");
    }
    let bad = pb::PatchMetadataRequest { room_id: "g\n".to_owned(), ..request(&[gone("k")]) };
    violates(ann.metadata.clone().patch_metadata(bad).await, "room_id");
    let bad = pb::PatchMetadataRequest { request_id: "r\0".to_owned(), ..request(&[gone("k")]) };
    violates(ann.metadata.clone().patch_metadata(bad).await, "request_id");
    assert!(told(&suite).is_empty(), "nothing changed");
}
