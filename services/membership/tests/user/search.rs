//! SearchUsers.

use std::collections::BTreeMap;

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::search_users_request::Prefix;
use parlance_types::{MAX_ANSWER, Query};
use prost::Message as _;

use crate::harness::{Clients, World, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        users_are_found_by_how_their_names_begin,
        users_are_found_by_how_their_ids_begin,
        a_search_goes_page_by_page_also_among_equal_names,
        a_page_holds_no_more_than_clients_take,
        a_search_stays_within_its_tenant,
        bad_fields_are_named,
);

fn by_name(prefix: &str) -> pb::SearchUsersRequest {
    let prefix = Some(Prefix::NamePrefix(prefix.to_owned()));
    pb::SearchUsersRequest { prefix, page_size: 100, ..Default::default() }
}

fn by_id(prefix: &str) -> pb::SearchUsersRequest {
    let prefix = Some(Prefix::UserIdPrefix(prefix.to_owned()));
    pb::SearchUsersRequest { prefix, page_size: 100, ..Default::default() }
}

/// Users with names.
async fn know(world: &World, users: &[(&str, &str)]) {
    let user = |(id, name): &(&str, &str)| pb::User {
        user_id: (*id).to_owned(),
        name: (*name).to_owned(),
        ..Default::default()
    };
    let request = pb::BatchUpsertUsersRequest { users: users.iter().map(user).collect() };
    world.service().users.batch_upsert_users(request).await.expect("users");
}

async fn found(caller: &Clients, request: pb::SearchUsersRequest) -> Vec<String> {
    let found = caller.users.clone().search_users(request).await.expect("a page").into_inner();
    assert_eq!(found.next_page_token, "");
    found.users.into_iter().map(|user| user.user_id).collect()
}

async fn users_are_found_by_how_their_names_begin(db: Db) {
    let world = World::new(db);
    let users = [
        ("1", "Anna"),
        ("2", "ann"),
        ("3", "ANNIKA"),
        ("4", "Joanna"),
        ("5", "An"),
        ("6", "ÄNNE"),
        ("7", "50%_"),
        ("8", "ann\u{10FFFD}"),
    ];
    know(&world, &users).await;
    let ann = world.user("nameless");
    assert_eq!(found(&ann, by_name("ann")).await, ["2", "1", "3", "8"]);
    assert_eq!(found(&ann, by_name("ANN")).await, ["2", "1", "3", "8"]);
    assert_eq!(found(&ann, by_name("än")).await, ["6"]);
    assert_eq!(found(&ann, by_name("50%")).await, ["7"]);
    assert_eq!(found(&world.service(), by_name("%")).await, [""; 0]);
    know(&world, &[("2", "Berta")]).await;
    assert_eq!(found(&ann, by_name("ann")).await, ["1", "3", "8"]);
    assert_eq!(found(&ann, by_name("b")).await, ["2"]);
}

async fn users_are_found_by_how_their_ids_begin(db: Db) {
    let world = World::new(db);
    world.know("acme", &["a", "ab", "Ab", "abc", "ac", "b"]).await;
    let ann = world.user("x");
    assert_eq!(found(&ann, by_id("ab")).await, ["ab", "abc"]);
    assert_eq!(found(&ann, by_id("a")).await, ["a", "ab", "abc", "ac"]);
    assert_eq!(found(&ann, by_id("x")).await, ["x"], "who calls has come into being");
    assert_eq!(found(&ann, by_id("abcd")).await, [""; 0]);
}

async fn a_search_goes_page_by_page_also_among_equal_names(db: Db) {
    let world = World::new(db);
    let ids: Vec<_> = (0..7).map(|id| format!("id {id}")).collect();
    let users: Vec<_> = ids.iter().map(|id| (id.as_str(), "Same")).collect();
    know(&world, &users).await;
    for first in [by_name("same"), by_id("id")] {
        let mut request = pb::SearchUsersRequest { page_size: 3, ..first };
        let (mut walked, mut pages) = (Vec::new(), 0);
        loop {
            let mut ann = world.user("ann").users;
            let page = ann.search_users(request.clone()).await.expect("a page").into_inner();
            walked.extend(page.users.into_iter().map(|user| user.user_id));
            pages += 1;
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
            let mut bob = world.user("bob").users;
            violates(bob.search_users(request.clone()).await, "page_token");
        }
        assert_eq!((walked, pages), (ids.clone(), 3));
    }
}

async fn a_page_holds_no_more_than_clients_take(db: Db) {
    let world = World::new(db);
    let pairs = (0..32).map(|key| (format!("k{key}"), "\u{1}".repeat(1024)));
    let metadata: BTreeMap<_, _> = pairs.collect();
    for part in 0..20 {
        let user = |id| pb::User {
            user_id: format!("big {part:02} {id}"),
            metadata: metadata.clone(),
            ..Default::default()
        };
        let request = pb::BatchUpsertUsersRequest { users: (0..5).map(user).collect() };
        world.service().users.batch_upsert_users(request).await.expect("users");
    }
    let (mut request, mut walked) = (by_id("big"), 0);
    loop {
        let mut ann = world.user("ann").users;
        let page = ann.search_users(request.clone()).await.expect("a page").into_inner();
        assert!(page.encoded_len() <= MAX_ANSWER + 1024);
        walked += page.users.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(walked, 100);
}

async fn a_search_stays_within_its_tenant(db: Db) {
    let world = World::new(db);
    know(&world, &[("ann", "Ann")]).await;
    let other = world.user_of("other", "x");
    assert_eq!(found(&other, by_name("a")).await, [""; 0]);
    assert_eq!(found(&other, by_id("a")).await, [""; 0]);
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut ann = world.user("ann").users;
    violates(ann.search_users(pb::SearchUsersRequest::default()).await, "prefix");
    for bad in [String::new(), "a\0".to_owned(), "é".repeat(257)] {
        violates(ann.search_users(by_name(&bad)).await, "name_prefix");
    }
    for bad in crate::harness::bad_ids() {
        violates(ann.search_users(by_id(&bad)).await, "user_id_prefix");
    }
    let request = pb::SearchUsersRequest { page_size: -1, ..by_name("a") };
    violates(ann.search_users(request).await, "page_size");
    // Of the right query, with what no user is called.
    let query = Query::new(&["SearchUsers", "acme", "ann", "name", "a"]);
    for forged in [query.token(("a\0", "ann")), query.token(("a", "a\0")), query.token(("a", ""))] {
        let request = pb::SearchUsersRequest { page_token: forged, ..by_name("a") };
        violates(ann.search_users(request).await, "page_token");
    }
    let page_token = "x".to_owned();
    violates(
        ann.search_users(pb::SearchUsersRequest { page_token, ..by_name("a") }).await,
        "page_token",
    );
}
