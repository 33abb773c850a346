//! `GetTenantSettings` and `SetTenantSettings`, and the fields of rooms.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as log;
use parlance_proto::message::v1::event::Body;
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use prost_types::FieldMask;

use crate::harness::{Client, Harness, channel, create, get, group, refused, violates};

test_on_each_db!(parlance_room::MIGRATIONS =>
    settings_are_those_of_the_operators_tenant,
    only_operators_may,
    fields_that_are_not_allowed_are_left_out_and_named,
    a_field_that_is_taken_off_is_gone_from_every_room,
    an_update_puts_fields_in_place_of_others,
    a_channel_that_exists_keeps_its_fields,
    a_repeat_names_the_same_fields,
    two_who_set_at_once_do_so_one_after_the_other,
    what_is_wrong_with_a_request_is_named,
);

fn set(names: &[&str]) -> pb::SetTenantSettingsRequest {
    let allowed_fields = names.iter().map(ToString::to_string).collect();
    pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings { allowed_fields, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["allowed_fields".to_owned()] }),
    }
}

async fn allow(suite: &Harness, names: &[&str]) -> Vec<String> {
    let mut operator = suite.caller("acme", Principal::Operator);
    let reply = operator.settings.set_tenant_settings(set(names)).await.expect("set");
    reply.into_inner().settings.expect("settings").allowed_fields
}

fn values(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn with_fields(room_id: &str, fields: &[(&str, &str)]) -> pb::CreateRoomRequest {
    pb::CreateRoomRequest { fields: values(fields), ..group(room_id, &[]) }
}

async fn fields_of(client: &Client, room_id: &str) -> BTreeMap<String, String> {
    let got = client.rooms.clone().get_room(get(room_id)).await.expect("there");
    got.into_inner().room.expect("a room").fields
}

fn update(fields: &[(&str, &str)], request_id: &str) -> pb::UpdateRoomRequest {
    let (room_id, fields) = ("g".to_owned(), values(fields));
    pb::UpdateRoomRequest {
        room: Some(pb::Room { room_id, fields, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["fields".to_owned()] }),
        request_id: request_id.to_owned(),
        ..Default::default()
    }
}

async fn settings_are_those_of_the_operators_tenant(db: Db) {
    let suite = Harness::new(db).await;
    let of = async |tenant: &str| {
        let mut operator = suite.caller(tenant, Principal::Operator);
        let got = operator.settings.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
        got.expect("settings").into_inner().settings.expect("settings").allowed_fields
    };
    assert!(of("acme").await.is_empty());
    assert_eq!(allow(&suite, &["topic", "city"]).await, ["city", "topic"]);
    assert_eq!(of("acme").await, ["city", "topic"]);
    assert!(of("other").await.is_empty());
    assert!(allow(&suite, &[]).await.is_empty());
    assert!(of("acme").await.is_empty());
}

async fn only_operators_may(db: Db) {
    let suite = Harness::new(db).await;
    for mut client in [suite.user("ann"), suite.service_for("ann"), suite.backend()] {
        refused(client.settings.set_tenant_settings(set(&["topic"])).await, Reason::NotAllowed);
        let got = client.settings.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
        refused(got, Reason::NotAllowed);
    }
}

/// B-032.
async fn fields_that_are_not_allowed_are_left_out_and_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let wish = [("topic", "tea"), ("size", "7"), ("city", "Ulm")];
    let made = ann.rooms.create_room(with_fields("none", &wish)).await.expect("made").into_inner();
    assert!(made.room.expect("a room").fields.is_empty());
    assert_eq!(made.ignored_fields, ["city", "size", "topic"]);

    allow(&suite, &["topic", "city"]).await;
    let made = ann.rooms.create_room(with_fields("g", &wish)).await.expect("made").into_inner();
    let allowed = values(&[("city", "Ulm"), ("topic", "tea")]);
    assert_eq!(made.room.expect("a room").fields, allowed);
    assert_eq!(made.ignored_fields, ["size"]);
    assert_eq!(fields_of(&ann, "g").await, allowed);
    let (_, roster) = suite.roster.of("g");
    let Some(Body::RoomCreated(created)) = roster.created.body else { panic!("{roster:?}") };
    assert_eq!(created.fields, allowed);

    let request = pb::GetOrCreateChannelRequest { fields: values(&wish), ..channel("open source") };
    let made = ann.rooms.get_or_create_channel(request).await.expect("made").into_inner();
    assert_eq!((made.room.expect("a room").fields, made.created), (allowed, true));
    assert_eq!(made.ignored_fields, ["size"]);
    let mut other = suite.caller("other", Principal::Service);
    let made = other.rooms.create_room(with_fields("g", &wish)).await.expect("made").into_inner();
    assert_eq!(made.ignored_fields.len(), 3, "each tenant has its own");
}

/// B-033.
async fn a_field_that_is_taken_off_is_gone_from_every_room(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    allow(&suite, &["topic", "city"]).await;
    for room_id in ["g", "h"] {
        create(&mut ann, with_fields(room_id, &[("topic", "tea"), ("city", "Ulm")])).await;
    }
    allow(&suite, &["topic", "size"]).await;

    let left = values(&[("topic", "tea")]);
    assert_eq!(fields_of(&ann, "g").await, left);
    let room_ids = vec!["g".to_owned(), "h".to_owned()];
    let batch = pb::BatchGetRoomsRequest { room_ids, ..Default::default() };
    let batch = ann.rooms.batch_get_rooms(batch).await.expect("rooms").into_inner();
    assert!(batch.rooms.iter().all(|room| room.fields == left));
    let log_id = suite.roster.of("h").0;
    let logs = vec![log::UserLog { log_id, ..Default::default() }];
    suite.logs.state().page = log::ListUserLogsResponse { logs, ..Default::default() };
    let list = ann.lists.list_my_rooms(pb::ListMyRoomsRequest::default()).await.expect("a page");
    let listed = list.into_inner().rooms.remove(0).room.expect("a room");
    assert_eq!(listed.fields, left);
    // The name comes back, the values do not.
    allow(&suite, &["topic", "city"]).await;
    assert_eq!(fields_of(&ann, "g").await, left);
    ann.rooms.update_room(update(&[("city", "Bonn")], "")).await.expect("updated");
    assert_eq!(fields_of(&ann, "g").await, values(&[("city", "Bonn")]));
}

/// B-032.
async fn an_update_puts_fields_in_place_of_others(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    allow(&suite, &["topic", "city"]).await;
    create(&mut ann, with_fields("g", &[("topic", "tea")])).await;
    let wish = [("city", "Ulm"), ("size", "7")];
    let updated = ann.rooms.update_room(update(&wish, "")).await.expect("updated").into_inner();
    assert_eq!(updated.ignored_fields, ["size"]);
    assert_eq!(updated.room.expect("a room").fields, values(&[("city", "Ulm")]));
    let (log_id, _) = suite.roster.of("g");
    let told = suite.logs.updates(&log_id).remove(0).1;
    assert_eq!(
        (told.fields, told.changed_fields),
        (values(&[("city", "Ulm")]), vec!["fields".to_owned()])
    );
    // What is not allowed changes nothing, and nothing at all takes the rest away.
    ann.rooms.update_room(update(&wish, "")).await.expect("updated");
    assert_eq!(suite.logs.updates(&log_id).len(), 1);
    ann.rooms.update_room(update(&[], "")).await.expect("updated");
    assert!(fields_of(&ann, "g").await.is_empty());
}

async fn a_channel_that_exists_keeps_its_fields(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    allow(&suite, &["topic"]).await;
    let wish = |topic: &str| pb::GetOrCreateChannelRequest {
        fields: values(&[("topic", topic), ("size", "7")]),
        ..channel("c")
    };
    ann.rooms.get_or_create_channel(wish("tea")).await.expect("made");
    let found = ann.rooms.get_or_create_channel(wish("ale")).await.expect("found").into_inner();
    assert_eq!(found.room.expect("a room").fields, values(&[("topic", "tea")]));
    assert_eq!((found.ignored_fields, found.created), (vec!["size".to_owned()], false));
}

async fn a_repeat_names_the_same_fields(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    allow(&suite, &["topic"]).await;
    let wish = [("topic", "tea"), ("size", "7")];
    let new = pb::CreateRoomRequest { request_id: "r1".to_owned(), ..with_fields("g", &wish) };
    let first = ann.rooms.create_room(new.clone()).await.expect("made").into_inner();
    assert_eq!(first.ignored_fields, ["size"]);
    let wish = [("topic", "ale"), ("size", "7")];
    let updated = ann.rooms.update_room(update(&wish, "r2")).await.expect("updated").into_inner();
    allow(&suite, &["size"]).await;
    let again = ann.rooms.create_room(new).await.expect("a repeat").into_inner();
    assert_eq!(again, first);
    let again = ann.rooms.update_room(update(&wish, "r2")).await.expect("a repeat").into_inner();
    assert_eq!(again, updated);
}

async fn two_who_set_at_once_do_so_one_after_the_other(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for round in 0..5 {
        let (one, other) = (["topic"], ["topic", "city"]);
        tokio::join!(allow(&suite, &one), allow(&suite, &other));
        let room_id = format!("room {round}");
        let room = create(&mut ann, with_fields(&room_id, &[("topic", "tea")])).await;
        assert_eq!(room.fields, values(&[("topic", "tea")]));
    }
    // What was allowed throughout was never gone.
    assert_eq!(fields_of(&ann, "room 0").await, values(&[("topic", "tea")]));
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let nothing = pb::SetTenantSettingsRequest { settings: None, ..set(&[]) };
    violates(operator.set_tenant_settings(nothing).await, "settings");
    for paths in [vec![], vec!["nope".to_owned()], vec!["allowed_fields\0".to_owned()]] {
        let masked =
            pb::SetTenantSettingsRequest { update_mask: Some(FieldMask { paths }), ..set(&["a"]) };
        violates(operator.set_tenant_settings(masked).await, "update_mask");
    }
    let many: Vec<_> = (0..11).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let at = "settings.allowed_fields";
    violates(operator.set_tenant_settings(set(&many)).await, at);
    operator.set_tenant_settings(set(&many[..10])).await.expect("ten");
    for bad in ["", "a\0", "a\n", &"x".repeat(65), "a"] {
        violates(operator.set_tenant_settings(set(&["a", bad])).await, &format!("{at}[1]"));
    }
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    let many: Vec<_> = (0..33).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "")).collect();
    for bad in
        [&[("", "v")][..], &[("a\0", "v")], &[("a", "v\0")], &[("a", &*"x".repeat(257))], &many]
    {
        violates(ann.rooms.create_room(with_fields("h", bad)).await, "fields");
        let wish = pb::GetOrCreateChannelRequest { fields: values(bad), ..channel("c") };
        violates(ann.rooms.get_or_create_channel(wish).await, "fields");
        violates(ann.rooms.update_room(update(bad, "")).await, "room.fields");
    }
}
