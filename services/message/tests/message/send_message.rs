//! `SendMessage`.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{
    LogRules, MemberRole, MessageContent, PostRule, SendMessageRequest,
};
use parlance_rpc::{Caller, Principal, Reason};
use parlance_types::UserId;
use tonic::Response;

use crate::harness::{
    Client, TENANT, World, bad_ids, bad_message_ids, caller, get, refused, saying, send, text,
    violates,
};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_member_sends_and_is_told_place_time_and_epoch,
    numbers_follow_the_order_of_the_sends,
    a_custom_type_travels_with_its_properties,
    a_reply_names_a_message_of_the_same_room,
    a_service_sends_for_nobody_and_for_a_user,
    a_repeat_gets_the_first_reply,
    two_backends_with_the_same_request_id_are_not_taken_for_one,
    a_repeat_gets_the_first_reply_after_removal_and_new_rules,
    a_repeat_gets_the_first_reply_after_the_closing,
    a_request_id_does_not_serve_another_payload,
    a_request_id_is_the_senders_own,
    without_a_request_id_each_call_sends,
    only_admins_send_where_the_rules_say_so,
    strangers_are_refused,
    bad_input_is_refused_by_name,
    the_largest_content_is_taken,
);

fn hello() -> SendMessageRequest {
    saying("lobby", "hello")
}

fn once() -> SendMessageRequest {
    SendMessageRequest { request_id: "r1".to_owned(), ..hello() }
}

/// B-092, B-095, B-096, B-211.
async fn a_member_sends_and_is_told_place_time_and_epoch(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    world.clock.advance(1_000_000);

    let sent = world.user("ann").messages.send_message(hello()).await.expect("send").into_inner();

    assert_eq!((sent.seq, sent.message_id.as_str()), (3, &*format!("{}-3", room.log_id)));
    let time = sent.send_time.expect("a time");
    assert_eq!((time.seconds, time.nanos), (2, 500_000_000));
    assert!(!sent.epoch.is_empty());
    let read = get(&mut world.user("bob"), &sent.message_id).await;
    assert_eq!((read.seq, read.room_id.as_str(), read.sender_id.as_str()), (3, "lobby", "ann"));
    let content = MessageContent { r#type: "text".to_owned(), ..text("hello") };
    assert_eq!((read.content, read.send_time), (Some(content), Some(time)));
}

async fn numbers_follow_the_order_of_the_sends(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    for seq in 3..9 {
        let sender = if seq % 2 == 0 { "ann" } else { "bob" };
        assert_eq!(send(&mut world.user(sender), "lobby", "hello").await.seq, seq);
    }
}

/// B-093, B-094, B-127, B-171.
async fn a_custom_type_travels_with_its_properties(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let content = MessageContent {
        r#type: "location".to_owned(),
        properties: BTreeMap::from([("lat".to_owned(), "52.5".to_owned())]),
        ..MessageContent::default()
    };
    let request = SendMessageRequest { content: Some(content.clone()), uncounted: true, ..hello() };

    let mut ann = world.user("ann");
    let sent = ann.messages.send_message(request).await.expect("send").into_inner();

    let read = get(&mut ann, &sent.message_id).await;
    assert_eq!((read.content, read.uncounted), (Some(content), true));
}

/// B-115.
async fn a_reply_names_a_message_of_the_same_room(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    group(&world, "cellar", &["ann"]).await;
    let mut ann = world.user("ann");
    let here = send(&mut ann, "lobby", "question").await.message_id;
    let there = send(&mut ann, "cellar", "question").await.message_id;
    let answer = |to: &str| {
        let content = MessageContent { reply_to_message_id: to.to_owned(), ..text("answer") };
        SendMessageRequest { content: Some(content), ..hello() }
    };

    let sent = ann.messages.send_message(answer(&here)).await.expect("send").into_inner();
    let content = get(&mut ann, &sent.message_id).await.content.expect("a content");
    assert_eq!(content.reply_to_message_id, here);

    violates(ann.messages.send_message(answer(&there)).await, "content.reply_to_message_id");
    // A stranger does not learn which room a message is in.
    let mut eve = world.user("eve");
    refused(eve.messages.send_message(answer(&there)).await, Reason::NotAMember);
}

/// B-086, B-111.
async fn a_service_sends_for_nobody_and_for_a_user(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    for (principal, sender) in [
        (Principal::Service, ""),
        (Principal::Operator, ""),
        (Principal::ServiceFor(UserId::new("ann")), "ann"),
    ] {
        let mut client = world.client(TENANT, principal);
        let sent = client.messages.send_message(hello()).await.expect("send").into_inner();
        let read = get(&mut world.user("ann"), &sent.message_id).await;
        assert_eq!(read.sender_id, sender);
    }
}

/// B-098.
async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    for mut client in [world.user("ann"), world.backend()] {
        let first = client.messages.send_message(once()).await.expect("send").into_inner();
        world.clock.advance(1_000_000);
        // An explicit default is the same payload.
        let content = MessageContent { r#type: "text".to_owned(), ..text("hello") };
        let same = SendMessageRequest { content: Some(content), ..once() };
        for repeat in [once(), same] {
            let reply = client.messages.send_message(repeat).await.expect("repeat").into_inner();
            assert_eq!(reply, first);
        }
    }
    assert_eq!(send(&mut world.user("ann"), "lobby", "next").await.seq, 5);
}

async fn two_backends_with_the_same_request_id_are_not_taken_for_one(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let backend = |subject: &str| {
        let caller = caller(TENANT, Principal::Service);
        world.with(Some(Caller { subject: subject.to_owned(), ..caller }), None)
    };
    let (mut shop, mut crm) = (backend("shop"), backend("crm"));
    let of_shop = shop.messages.send_message(once()).await.expect("send").into_inner();
    let content = Some(text("something else"));
    let other = SendMessageRequest { content, ..once() };
    let of_crm = crm.messages.send_message(other.clone()).await.expect("send").into_inner();
    assert_eq!(of_crm.seq, of_shop.seq + 1);
    assert_eq!(crm.messages.send_message(other).await.expect("repeat").into_inner(), of_crm);
    assert_eq!(shop.messages.send_message(once()).await.expect("repeat").into_inner(), of_shop);
}

async fn a_repeat_gets_the_first_reply_after_removal_and_new_rules(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let mut ann = world.user("ann");
    let first = ann.messages.send_message(once()).await.expect("send").into_inner();

    room.set_rules(LogRules { post: PostRule::Admins.into(), ..LogRules::default() }).await;
    assert_eq!(ann.messages.send_message(once()).await.expect("repeat").into_inner(), first);
    refused(ann.messages.send_message(hello()).await, Reason::PostingRestricted);

    room.leave("ann").await;
    assert_eq!(ann.messages.send_message(once()).await.expect("repeat").into_inner(), first);
    refused(ann.messages.send_message(hello()).await, Reason::NotAMember);
}

async fn a_repeat_gets_the_first_reply_after_the_closing(db: Db) {
    let world = World::open(db.clone()).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let first = ann.messages.send_message(once()).await.expect("send").into_inner();
    room.close().await;
    // Whether the node remembers the room or not.
    let fresh = World::open(db).await;
    for mut ann in [ann, fresh.user("ann"), fresh.user("ann")] {
        let again = ann.messages.send_message(once()).await.expect("a repeat").into_inner();
        assert_eq!(again, first);
        refused(ann.messages.send_message(hello()).await, Reason::RoomNotFound);
    }
}

async fn a_request_id_does_not_serve_another_payload(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    ann.messages.send_message(once()).await.expect("send");

    for other in [
        SendMessageRequest { content: Some(text("bye")), ..once() },
        SendMessageRequest { uncounted: true, ..once() },
    ] {
        refused(ann.messages.send_message(other).await, Reason::RequestIdReused);
    }
}

async fn a_request_id_is_the_senders_own(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    group(&world, "cellar", &["ann"]).await;
    let elsewhere = SendMessageRequest { room_id: "cellar".to_owned(), ..once() };
    let mut ids = Vec::new();
    for (mut client, request) in [
        (world.user("ann"), once()),
        (world.user("bob"), once()),
        (world.backend(), once()),
        (world.user("ann"), elsewhere),
    ] {
        ids.push(
            client.messages.send_message(request).await.expect("send").into_inner().message_id,
        );
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

async fn without_a_request_id_each_call_sends(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    for seq in [3, 4] {
        assert_eq!(send(&mut ann, "lobby", "hello").await.seq, seq);
    }
}

async fn only_admins_send_where_the_rules_say_so(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").admins_post().members(&["ann"]);
    let room = room.member("bob", MemberRole::Admin).member("cid", MemberRole::Owner);
    let room = room.make(&world).await;

    refused(world.user("ann").messages.send_message(hello()).await, Reason::PostingRestricted);
    for mut client in [world.user("bob"), world.user("cid"), world.backend()] {
        client.messages.send_message(hello()).await.expect("send");
    }
    room.set_role("ann", MemberRole::Admin).await;
    world.user("ann").messages.send_message(hello()).await.expect("send");
}

/// B-063, B-073, B-116, B-176, B-184, B-208.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |mut client: Client, room: &str| {
        let request = SendMessageRequest { room_id: room.to_owned(), ..hello() };
        client.messages.send_message(request).await.map(drop)
    })
    .await;
}

/// B-112, B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    for room_id in bad_ids() {
        violates(
            ann.messages.send_message(SendMessageRequest { room_id, ..hello() }).await,
            "room_id",
        );
    }
    for request_id in bad_ids().into_iter().filter(|id| !id.is_empty()) {
        let request = SendMessageRequest { request_id, ..hello() };
        violates(ann.messages.send_message(request).await, "request_id");
    }
    violates(
        ann.messages.send_message(SendMessageRequest { content: None, ..hello() }).await,
        "content",
    );
    for (content, field) in bad_contents() {
        let request = SendMessageRequest { content: Some(content), ..hello() };
        violates(ann.messages.send_message(request).await, field);
    }
    for id in bad_message_ids().into_iter().filter(|id| !id.is_empty()) {
        let content = MessageContent { reply_to_message_id: id.to_owned(), ..text("hello") };
        let request = SendMessageRequest { content: Some(content), ..hello() };
        violates(ann.messages.send_message(request).await, "content.reply_to_message_id");
    }
    // Nothing of it was stored.
    assert_eq!(send(&mut ann, "lobby", "hello").await.seq, 3);
}

/// Contents that are refused, and for which field.
pub(crate) fn bad_contents() -> Vec<(MessageContent, &'static str)> {
    let kind = |kind: &str| MessageContent { r#type: kind.to_owned(), ..text("x") };
    let pair = |key: &str, value: &str| {
        let properties = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        MessageContent { properties, ..text("x") }
    };
    let many = (0..33).map(|n| (n.to_string(), String::new())).collect();
    vec![
        (text(""), "content.text"),
        (text("a\0b"), "content.text"),
        (text(&"x".repeat(4001)), "content.text"),
        (kind(&"x".repeat(65)), "content.type"),
        (kind("a\nb"), "content.type"),
        (kind("\0"), "content.type"),
        (pair("", "x"), "content.properties"),
        (pair(&"x".repeat(65), "x"), "content.properties"),
        (pair("x", &"x".repeat(1025)), "content.properties"),
        (pair("x\0", "x"), "content.properties"),
        (pair("x", "\0"), "content.properties"),
        (MessageContent { properties: many, ..text("x") }, "content.properties"),
    ]
}

/// B-112.
async fn the_largest_content_is_taken(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let key = |n: usize| format!("{n:02}{}", "k".repeat(62));
    let content = MessageContent {
        r#type: "x".repeat(64),
        text: "\u{1f600}".repeat(4000),
        properties: (0..32).map(|n| (key(n), "v".repeat(1024))).collect(),
        ..MessageContent::default()
    };
    let request = SendMessageRequest { content: Some(content.clone()), ..once() };
    let sent = ann.messages.send_message(request).await.map(Response::into_inner).expect("send");
    assert_eq!(get(&mut ann, &sent.message_id).await.content, Some(content));
}
