//! UserService.

use std::collections::BTreeMap;

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;
use prost::Message as _;

use crate::harness::{World, bad_ids, named, refused, refused_naming, strings, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_user_is_created_replaced_and_read,
        users_write_their_own_entry_only,
        a_batch_is_written_all_or_none_in_the_order_given,
        a_batch_is_for_services_only,
        reading_many_tells_who_is_missing,
        users_that_do_not_fit_are_named,
        a_user_comes_into_being_at_the_first_call,
        internal_tokens_are_refused,
        bad_fields_are_named,
        batches_that_cross_do_not_deadlock,
);

fn upsert(user: pb::User) -> pb::UpsertUserRequest {
    pb::UpsertUserRequest { user: Some(user) }
}

fn get(user: &str) -> pb::GetUserRequest {
    pb::GetUserRequest { user_id: user.to_owned() }
}

/// B-194.
async fn a_user_is_created_replaced_and_read(db: Db) {
    let world = World::new(db);
    let mut ann = world.user("ann@example.org");
    let pairs = BTreeMap::from([("team".to_owned(), "Ünïcödé".to_owned())]);
    let first = pb::User {
        name: "Ann".to_owned(),
        picture: "a.png".to_owned(),
        metadata: pairs.clone(),
        ..named("ann@example.org")
    };
    let stored = ann.users.upsert_user(upsert(first)).await.expect("created").into_inner();
    let stored = stored.user.expect("user");
    assert_eq!((stored.name.as_str(), &stored.metadata), ("Ann", &pairs));
    assert_eq!(stored.create_time.expect("time").seconds, 1000);
    assert_eq!(stored.create_time, stored.update_time);

    world.clock.advance(5_000_000);
    let second = pb::User { name: "Anna".to_owned(), ..named("ann@example.org") };
    let stored = ann.users.upsert_user(upsert(second)).await.expect("replaced").into_inner();
    let stored = stored.user.expect("user");
    assert_eq!((stored.name.as_str(), stored.picture.as_str()), ("Anna", ""));
    assert!(stored.metadata.is_empty());
    assert_eq!(stored.create_time.expect("time").seconds, 1000);
    assert_eq!(stored.update_time.expect("time").seconds, 1005);

    let read = world.user("bob").users.get_user(get("ann@example.org")).await.expect("read");
    assert_eq!(read.into_inner().user, Some(stored));
    let missing = world.user("bob").users.get_user(get("nobody")).await;
    refused_naming(missing, Reason::UserNotFound, "nobody");
}

async fn users_write_their_own_entry_only(db: Db) {
    let world = World::new(db);
    for mut ann in [world.user("ann"), world.service_for("ann")] {
        refused(ann.users.upsert_user(upsert(named("bob"))).await, Reason::NotAllowed);
        ann.users.upsert_user(upsert(named("ann"))).await.expect("her own");
    }
    world.service().users.upsert_user(upsert(named("bob"))).await.expect("a service may");
}

async fn a_batch_is_written_all_or_none_in_the_order_given(db: Db) {
    let world = World::new(db);
    let mut service = world.service();
    let request = pb::BatchUpsertUsersRequest { users: vec![named("b"), named("a"), named("c")] };
    let stored = service.users.batch_upsert_users(request).await.expect("written").into_inner();
    let ids: Vec<_> = stored.users.iter().map(|user| user.user_id.as_str()).collect();
    assert_eq!(ids, ["b", "a", "c"]);
    let bad = pb::User { name: "x".repeat(257), ..named("e") };
    let request = pb::BatchUpsertUsersRequest { users: vec![named("d"), bad] };
    violates(service.users.batch_upsert_users(request).await, "users[1].name");
    refused(service.users.get_user(get("d")).await, Reason::UserNotFound);
}

async fn a_batch_is_for_services_only(db: Db) {
    let world = World::new(db);
    for mut ann in [world.user("ann"), world.service_for("ann")] {
        let request = pb::BatchUpsertUsersRequest { users: vec![named("ann")] };
        refused(ann.users.batch_upsert_users(request).await, Reason::NotAllowed);
    }
}

async fn reading_many_tells_who_is_missing(db: Db) {
    let world = World::new(db);
    world.know("acme", &["a", "b", "c"]).await;
    let request = pb::BatchGetUsersRequest { user_ids: strings(&["c", "x", "a", "y"]) };
    let found = world.user("ann").users.batch_get_users(request).await.expect("read").into_inner();
    let ids: Vec<_> = found.users.iter().map(|user| user.user_id.as_str()).collect();
    assert_eq!((ids, found.missing_user_ids), (vec!["c", "a"], strings(&["x", "y"])));
}

async fn a_user_comes_into_being_at_the_first_call(db: Db) {
    let world = World::new(db);
    refused(world.service().users.get_user(get("ann")).await, Reason::UserNotFound);
    let own = world.user("ann").users.get_user(get("ann")).await.expect("she is here");
    assert_eq!(own.into_inner().user.expect("user").create_time.expect("time").seconds, 1000);
    let request = pb::ListUserMembershipsRequest::default();
    world.user("bob").members.list_user_memberships(request).await.expect("none");
    world.service().users.get_user(get("bob")).await.expect("he is here");
}

async fn internal_tokens_are_refused(db: Db) {
    let world = World::new(db);
    let mut room_service = world.room_service("acme", Some("ann"));
    refused(room_service.users.get_user(get("ann")).await, Reason::NotAllowed);
    refused(
        room_service.members.join_room(pb::JoinRoomRequest::default()).await,
        Reason::NotAllowed,
    );
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut service = world.service();
    violates(service.users.upsert_user(pb::UpsertUserRequest { user: None }).await, "user");
    for bad in bad_ids() {
        violates(service.users.upsert_user(upsert(named(&bad))).await, "user.user_id");
        violates(service.users.get_user(get(&bad)).await, "user_id");
        let request = pb::BatchGetUsersRequest { user_ids: vec!["a".to_owned(), bad] };
        violates(service.users.batch_get_users(request).await, "user_ids[1]");
    }
    let pairs = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    for (field, user) in [
        ("user.name", pb::User { name: "a\0".to_owned(), ..named("a") }),
        ("user.picture", pb::User { picture: "x".repeat(2049), ..named("a") }),
        ("user.metadata", pb::User { metadata: pairs("", "v"), ..named("a") }),
        ("user.metadata", pb::User { metadata: pairs("k", "\0"), ..named("a") }),
    ] {
        violates(service.users.upsert_user(upsert(user)).await, field);
    }
    let many: Vec<_> = (0..101).map(|n| named(&n.to_string())).collect();
    for (users, field) in
        [(vec![], "users"), (many, "users"), (vec![named("a"), named("a")], "users[1].user_id")]
    {
        let request = pb::BatchUpsertUsersRequest { users };
        violates(service.users.batch_upsert_users(request).await, field);
    }
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    for (user_ids, field) in
        [(vec![], "user_ids"), (many, "user_ids"), (strings(&["a", "b", "a"]), "user_ids[2]")]
    {
        let request = pb::BatchGetUsersRequest { user_ids };
        violates(service.users.batch_get_users(request).await, field);
    }
}

async fn batches_that_cross_do_not_deadlock(db: Db) {
    let world = World::new(db);
    let forth: Vec<_> = (0..50).map(|n| named(&format!("{n:02}"))).collect();
    let back: Vec<_> = forth.iter().rev().cloned().collect();
    let writes = (0..8).map(|n| {
        let users = if n % 2 == 0 { forth.clone() } else { back.clone() };
        let mut service = world.service();
        async move { service.users.batch_upsert_users(pb::BatchUpsertUsersRequest { users }).await }
    });
    for written in futures::future::join_all(writes).await {
        assert_eq!(written.expect("written").into_inner().users.len(), 50);
    }
}

/// The client accepts 4 MiB, as clients do.
async fn users_that_do_not_fit_are_named(db: Db) {
    let world = World::new(db);
    let mut shop = world.service();
    let ids: Vec<_> = (0..100).map(|n| format!("{n:0>128}")).collect();
    for user_id in &ids {
        let largest = pb::User {
            name: "\u{10348}".repeat(256),
            picture: "x".repeat(2048),
            metadata: (0..32).map(|n| (format!("{n:0>64}"), "x".repeat(1024))).collect(),
            ..named(user_id)
        };
        shop.users.upsert_user(upsert(largest)).await.expect("written");
    }
    let (mut got, mut missing) = (Vec::new(), ids.clone());
    while !missing.is_empty() {
        let request = pb::BatchGetUsersRequest { user_ids: missing.clone() };
        let reply = shop.users.batch_get_users(request).await.expect("users").into_inner();
        assert!(reply.encoded_len() < (3 << 20) + 20_000, "{}", reply.encoded_len());
        assert!(reply.users.len() >= missing.len().min(50), "{}", reply.users.len());
        assert!(reply.missing_user_ids.is_empty());
        got.extend(reply.users.into_iter().map(|user| user.user_id));
        missing = reply.left_out_user_ids;
    }
    assert_eq!(got, ids);
}
