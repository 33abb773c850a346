//! `FactService.ApplyFacts`.

use bytes::Bytes;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{
    ApplyFactsRequest, ApplyFactsResponse, BlockChange, Effects, Event, Fact, FactSource, Hiding,
    LogIdentity, MemberRole, MessageSent, Projection, RoomClosed, RoomKind,
};
use parlance_rpc::{Principal, Reason};
use parlance_types::{LogId, UserId};
use prost::Message as _;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::harness::{InternalClient, TENANT, World, bad_ids, refused, send, violates};
use crate::rights;
use crate::rooms::{self, Room, closed, event, gained, grant, group, lost, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    the_first_fact_creates_the_log,
    facts_are_applied_once_and_in_order,
    sources_count_for_themselves,
    a_gap_is_refused_and_says_where_to_go_on,
    a_source_cannot_come_before_the_log,
    an_open_room_keeps_its_id,
    facts_after_the_end_are_counted_and_not_stored,
    the_same_ids_in_two_tenants_are_two_rooms,
    a_log_of_another_tenant_is_not_found,
    only_the_suite_itself_may_call,
    bad_input_is_refused_by_name,
);

/// The creation of a group of Ann.
fn creation(room_id: &str) -> ApplyFactsRequest {
    let log_id = LogId(Uuid::now_v7());
    let first = plan(room_id).member("ann", MemberRole::Owner).fact(log_id).facts.remove(0);
    let events = first.events.into_iter().map(Vec::from).collect();
    let facts = vec![Fact { version: 1, events, ..Fact::default() }];
    ApplyFactsRequest { identity: Some(identity(room_id)), ..of(log_id, facts) }
}

/// Facts of the membership service.
fn of(log_id: LogId, facts: Vec<Fact>) -> ApplyFactsRequest {
    ApplyFactsRequest {
        log_id: log_id.to_string(),
        source: FactSource::Membership.into(),
        facts,
        identity: None,
    }
}

fn identity(room_id: &str) -> LogIdentity {
    LogIdentity {
        room_id: room_id.to_owned(),
        kind: RoomKind::Group.into(),
        ..LogIdentity::default()
    }
}

fn fact(version: i64, event: Bytes) -> Fact {
    Fact { version, events: vec![event.into()], ..Fact::default() }
}

/// A fact that somebody joined.
fn joined(version: i64, user: &str) -> Fact {
    fact(version, rooms::joined(vec![grant(user, MemberRole::Member)]))
}

/// A fact of the room service.
fn updated(version: i64) -> Fact {
    fact(version, rooms::updated(Effects::default()))
}

async fn apply(client: &mut InternalClient, request: ApplyFactsRequest) -> ApplyFactsResponse {
    client.facts.apply_facts(request).await.expect("apply").into_inner()
}

fn at(applied: i64, head: i64) -> ApplyFactsResponse {
    ApplyFactsResponse { applied, head, closed: false }
}

async fn the_first_fact_creates_the_log(db: Db) {
    let world = World::open(db).await;
    let mut logs = world.internal(TENANT);
    let creation = creation("lobby");
    for _ in 0..2 {
        assert_eq!(apply(&mut logs, creation.clone()).await, at(1, 2));
    }
    // An id may be written with or without hyphens.
    let log_id = creation.log_id.replace('-', "");
    assert_eq!(apply(&mut logs, ApplyFactsRequest { log_id, ..creation }).await, at(1, 2));
    assert_eq!(send(&mut world.user("ann"), "lobby", "hello").await.seq, 3);
}

/// B-137.
async fn facts_are_applied_once_and_in_order(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let facts = |versions: &[(i64, &str)]| {
        versions.iter().map(|(version, user)| joined(*version, user)).collect::<Vec<_>>()
    };
    let mut logs = world.internal(TENANT);
    let mut done = async |new: Vec<Fact>| apply(&mut logs, of(room.log_id, new)).await;
    assert_eq!(done(vec![]).await, at(1, 2));
    assert_eq!(done(facts(&[(2, "bob")])).await, at(2, 3));
    // What was applied is skipped, what follows is applied.
    let more = facts(&[(2, "bob"), (3, "cid"), (4, "dee")]);
    for _ in 0..2 {
        assert_eq!(done(more.clone()).await, at(4, 5));
    }
    for user in ["bob", "cid", "dee"] {
        send(&mut world.user(user), "lobby", "hello").await;
    }
}

async fn sources_count_for_themselves(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut logs = world.internal(TENANT);
    let of_room = |room: &Room, facts| ApplyFactsRequest {
        source: FactSource::Room.into(),
        ..of(room.log_id, facts)
    };
    assert_eq!(apply(&mut logs, of_room(&room, vec![updated(1)])).await, at(1, 3));
    room.join("bob").await;
    assert_eq!(apply(&mut logs, of_room(&room, vec![updated(2)])).await, at(2, 5));
}

async fn a_gap_is_refused_and_says_where_to_go_on(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut logs = world.internal(TENANT);
    let ahead = of(room.log_id, vec![joined(3, "bob")]);
    let status = refused(logs.facts.apply_facts(ahead).await, Reason::FactGap);
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.metadata.get("applied").map(String::as_str), Some("1"));

    let mut late = creation("cellar");
    late.facts[0].version = 2;
    let status = refused(logs.facts.apply_facts(late).await, Reason::FactGap);
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.metadata.get("applied").map(String::as_str), Some("0"));
}

async fn a_source_cannot_come_before_the_log(db: Db) {
    let world = World::open(db).await;
    let request = ApplyFactsRequest {
        source: FactSource::Room.into(),
        facts: vec![updated(1)],
        ..creation("lobby")
    };
    refused(world.internal(TENANT).facts.apply_facts(request).await, Reason::LogNotFound);
    let none = ApplyFactsRequest { facts: vec![], ..creation("lobby") };
    refused(world.internal(TENANT).facts.apply_facts(none).await, Reason::LogNotFound);
}

async fn an_open_room_keeps_its_id(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut logs = world.internal(TENANT);
    let second = creation("lobby");
    refused(logs.facts.apply_facts(second.clone()).await, Reason::RoomIdTaken);
    room.close().await;
    assert_eq!(apply(&mut logs, second).await, at(1, 2));
}

async fn facts_after_the_end_are_counted_and_not_stored(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut logs = world.internal(TENANT);
    let closing = fact(2, event(closed(), Body::RoomClosed(RoomClosed {})));
    for facts in [vec![closing, joined(3, "bob")], vec![joined(4, "cid")]] {
        let applied = facts.last().expect("a fact").version;
        let done = apply(&mut logs, of(room.log_id, facts)).await;
        assert_eq!(done, ApplyFactsResponse { applied, head: 3, closed: true });
    }
}

/// B-176.
async fn the_same_ids_in_two_tenants_are_two_rooms(db: Db) {
    let world = World::open(db).await;
    for tenant in ["acme", "globex"] {
        plan("lobby").of_tenant(tenant).members(&["ann"]).make(&world).await;
    }
    for tenant in ["acme", "globex"] {
        let mut ann = world.client(tenant, Principal::User(UserId::new("ann")));
        assert_eq!(send(&mut ann, "lobby", "hello").await.seq, 3);
    }
}

/// B-176.
async fn a_log_of_another_tenant_is_not_found(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let request = of(room.log_id, vec![joined(2, "eve")]);
    refused(world.internal("globex").facts.apply_facts(request).await, Reason::LogNotFound);
}

async fn only_the_suite_itself_may_call(db: Db) {
    let world = World::open(db).await;
    let call = async |mut client: InternalClient| client.facts.apply_facts(creation("lobby")).await;
    rights::of_internal_call(&world, call).await;
}

async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    let mut logs = world.internal(TENANT);
    let good = creation("lobby");
    for log_id in ["", "lobby", "\0", "0"] {
        let request = ApplyFactsRequest { log_id: log_id.to_owned(), ..good.clone() };
        violates(logs.facts.apply_facts(request).await, "log_id");
    }
    for source in [0, -1, 99] {
        let request = ApplyFactsRequest { source, ..good.clone() };
        violates(logs.facts.apply_facts(request).await, "source");
    }
    let request = ApplyFactsRequest { identity: None, ..good.clone() };
    violates(logs.facts.apply_facts(request).await, "identity");
    for room_id in bad_ids() {
        let request = ApplyFactsRequest { identity: Some(identity(&room_id)), ..good.clone() };
        violates(logs.facts.apply_facts(request).await, "identity.room_id");
    }
    for user_id in bad_ids().into_iter().filter(|id| !id.is_empty()) {
        let identity = Some(LogIdentity { user_id, ..LogIdentity::default() });
        let request = ApplyFactsRequest { identity, ..good.clone() };
        violates(logs.facts.apply_facts(request).await, "identity.user_id");
    }
    for kind in [0, -1, 99] {
        let identity = Some(LogIdentity { kind, ..identity("lobby") });
        let request = ApplyFactsRequest { identity, ..good.clone() };
        violates(logs.facts.apply_facts(request).await, "identity.kind");
    }
    for (facts, field) in bad_facts() {
        let request = ApplyFactsRequest { facts, ..good.clone() };
        violates(logs.facts.apply_facts(request).await, field);
    }
    // Nothing of it was stored.
    assert_eq!(apply(&mut logs, good).await, at(1, 2));
}

fn bad_facts() -> Vec<(Vec<Fact>, &'static str)> {
    let of = |version, events| vec![Fact { version, events, ..Fact::default() }];
    let about = |event: Event| of(1, vec![event.encode_to_vec()]);
    let updated_event = updated(1).events.remove(0);
    let sent = Body::MessageSent(MessageSent::default());
    vec![
        (of(0, vec![updated_event.clone()]), "facts[0].version"),
        (of(-1, vec![updated_event.clone()]), "facts[0].version"),
        (vec![updated(1), updated(3)], "facts[1].version"),
        (vec![updated(2), updated(1)], "facts[1].version"),
        (vec![updated(1), updated(1)], "facts[1].version"),
        ((1..=1001).map(updated).collect(), "facts"),
        (of(1, vec![]), "facts[0].events"),
        (of(1, vec![updated_event.clone(); 17]), "facts[0].events"),
        (of(1, vec![updated_event, vec![0xff]]), "facts[0].events[1]"),
        (about(Event { seq: 1, ..Event::default() }), "facts[0].events[0]"),
        (about(Event { event_id: "x".to_owned(), ..Event::default() }), "facts[0].events[0]"),
        (about(Event { time: Some(a_time()), ..Event::default() }), "facts[0].events[0]"),
        (about(Event { body: Some(sent), ..Event::default() }), "facts[0].events[0]"),
        (about(Event { actor_id: "\n".to_owned(), ..Event::default() }), "facts[0].events[0]"),
        (about(Event { effects: Some(lost("a\0")), ..Event::default() }), "facts[0].events[0]"),
        (about(Event { effects: Some(gained("")), ..Event::default() }), "facts[0].events[0]"),
        (of(1, vec![vec![0; 256 * 1024 + 1]]), "facts[0].events[0]"),
        (silent(1, Projection::default()), "facts[0].events"),
        (silent(0, blocks("")), "facts[0].silent.blocks"),
        (silent(0, peers(3)), "facts[0].silent.peer_blocks"),
        (hiding(1, None, &["bob"]), "facts[0].hiding"),
        (hiding(0, Some(blocks("bob")), &["bob"]), "facts[0].hiding"),
        (hiding(0, None, &["bob"; 3]), "facts[0].hiding.peers"),
        (hiding(0, None, &[""]), "facts[0].hiding.peers"),
    ]
}

/// A silent fact that has events, though it may not.
fn silent(events: usize, silent: Projection) -> Vec<Fact> {
    let events = vec![Vec::new(); events];
    vec![Fact { version: 1, events, silent: Some(silent), ..Fact::default() }]
}

fn hiding(events: usize, silent: Option<Projection>, peers: &[&str]) -> Vec<Fact> {
    let change = |user: &&str| BlockChange { user_id: (*user).to_owned(), blocked: true };
    let hiding = Hiding { peers: peers.iter().map(change).collect(), ..Hiding::default() };
    let events = vec![Vec::new(); events];
    vec![Fact { version: 1, events, silent, hiding: Some(hiding), ..Fact::default() }]
}

fn blocks(user: &str) -> Projection {
    let blocks = vec![BlockChange { user_id: user.to_owned(), blocked: true }];
    Projection { blocks, ..Projection::default() }
}

fn peers(count: usize) -> Projection {
    let peer = BlockChange { user_id: "bob".to_owned(), blocked: true };
    Projection { peer_blocks: vec![peer; count], ..Projection::default() }
}

fn a_time() -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: 1, nanos: 0 }
}
