//! `EditMessage`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{
    EditMessageRequest, EditMessageResponse, LogRules, MemberRole, MessageContent,
    SendMessageRequest,
};
use parlance_rpc::Reason;
use tonic::{Response, Status};

use crate::harness::{
    Client, World, bad_ids, bad_message_ids, delete, edit, editing, get, refused, saying, send,
    text, violates, words,
};
use crate::message::send_message::bad_contents;
use crate::rights;
use crate::rooms::{group, only_admins_post, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    an_edit_replaces_the_content_and_keeps_the_place,
    an_edit_keeps_what_the_message_answers,
    the_latest_edit_counts,
    a_repeat_gets_the_first_reply_and_changes_nothing,
    a_repeat_gets_the_first_reply_after_removal,
    a_request_id_does_not_serve_another_payload,
    only_the_sender_edits,
    a_message_of_the_system_is_edited_by_services,
    whoever_may_not_post_edits_nothing_and_still_deletes,
    a_deleted_message_is_not_edited,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

fn once(message_id: &str, words: &str) -> EditMessageRequest {
    EditMessageRequest { request_id: "r1".to_owned(), ..editing(message_id, words) }
}

async fn edited(client: &mut Client, request: EditMessageRequest) -> EditMessageResponse {
    client.messages.edit_message(request).await.expect("edit").into_inner()
}

/// B-104.
async fn an_edit_replaces_the_content_and_keeps_the_place(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    let mut ann = world.user("ann");
    let sent = send(&mut ann, "lobby", "helo").await;
    send(&mut ann, "lobby", "something else").await;
    world.clock.advance(1_000_000);

    let reply = edit(&mut ann, &sent.message_id, "hello").await;

    assert_eq!(reply.seq, 5);
    let time = reply.edit_time.expect("a time");
    assert_eq!((time.seconds, time.nanos), (2, 500_000_000));
    let read = get(&mut world.user("bob"), &sent.message_id).await;
    assert_eq!((words(&read), read.seq, read.edit_seq), (Some("hello"), 3, 5));
    assert_eq!((read.send_time, read.edit_time), (sent.send_time, Some(time)));
}

/// B-115.
async fn an_edit_keeps_what_the_message_answers(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let question = send(&mut ann, "lobby", "question").await.message_id;
    let content = MessageContent { reply_to_message_id: question.clone(), ..text("anser") };
    let request = SendMessageRequest { content: Some(content), ..saying("lobby", "") };
    let answer = ann.messages.send_message(request).await.expect("send").into_inner().message_id;

    edit(&mut ann, &answer, "answer").await;

    let content = get(&mut ann, &answer).await.content.expect("a content");
    assert_eq!((content.text, content.reply_to_message_id), ("answer".to_owned(), question));
}

async fn the_latest_edit_counts(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let id = send(&mut ann, "lobby", "1").await.message_id;
    for (n, seq) in [("2", 4), ("3", 5)] {
        assert_eq!(edit(&mut ann, &id, n).await.seq, seq);
    }
    let read = get(&mut ann, &id).await;
    assert_eq!((words(&read), read.edit_seq), (Some("3"), 5));
}

async fn a_repeat_gets_the_first_reply_and_changes_nothing(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let id = send(&mut ann, "lobby", "1").await.message_id;
    let first = edited(&mut ann, once(&id, "2")).await;
    edit(&mut ann, &id, "3").await;
    world.clock.advance(1_000_000);

    assert_eq!(edited(&mut ann, once(&id, "2")).await, first);

    assert_eq!(words(&get(&mut ann, &id).await), Some("3"));
    assert_eq!(send(&mut ann, "lobby", "next").await.seq, 6);
}

async fn a_repeat_gets_the_first_reply_after_removal(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let mut ann = world.user("ann");
    let id = send(&mut ann, "lobby", "1").await.message_id;
    let first = edited(&mut ann, once(&id, "2")).await;
    room.leave("ann").await;

    assert_eq!(edited(&mut ann, once(&id, "2")).await, first);
    refused(ann.messages.edit_message(editing(&id, "3")).await, Reason::NotAMember);
}

async fn a_request_id_does_not_serve_another_payload(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let id = send(&mut ann, "lobby", "1").await.message_id;
    let other = send(&mut ann, "lobby", "1").await.message_id;
    edited(&mut ann, once(&id, "2")).await;

    for reused in [once(&id, "3"), once(&other, "2")] {
        refused(ann.messages.edit_message(reused).await, Reason::RequestIdReused);
    }
}

/// B-104.
async fn only_the_sender_edits(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").members(&["ann", "bob"]);
    let room = room.member("cid", MemberRole::Admin).member("dee", MemberRole::Owner);
    room.make(&world).await;
    let id = send(&mut world.user("ann"), "lobby", "mine").await.message_id;

    for mut client in [world.user("bob"), world.user("cid"), world.user("dee"), world.backend()] {
        refused(client.messages.edit_message(editing(&id, "yours")).await, Reason::NotTheSender);
    }
    let mut for_ann = world.service_for("ann");
    edit(&mut for_ann, &id, "still mine").await;
    assert_eq!(words(&get(&mut world.user("bob"), &id).await), Some("still mine"));
}

async fn a_message_of_the_system_is_edited_by_services(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").member("ann", MemberRole::Owner);
    room.make(&world).await;
    let id = send(&mut world.backend(), "lobby", "notice").await.message_id;

    refused(world.user("ann").messages.edit_message(editing(&id, "x")).await, Reason::NotTheSender);
    edit(&mut world.backend(), &id, "new notice").await;
    assert_eq!(words(&get(&mut world.user("ann"), &id).await), Some("new notice"));
}

/// An edit says something anew.
async fn whoever_may_not_post_edits_nothing_and_still_deletes(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").members(&["ann"]).member("cid", MemberRole::Admin);
    let room = room.make(&world).await;
    let (mut ann, mut cid) = (world.user("ann"), world.user("cid"));
    let id = send(&mut ann, "lobby", "1").await.message_id;
    let admins = send(&mut cid, "lobby", "1").await.message_id;
    let systems = send(&mut world.backend(), "lobby", "1").await.message_id;
    let first = edited(&mut ann, once(&id, "2")).await;
    room.set_rules(only_admins_post()).await;

    refused(ann.messages.edit_message(editing(&id, "3")).await, Reason::PostingRestricted);
    assert_eq!(edited(&mut ann, once(&id, "2")).await, first, "a repeat before rights");
    assert_eq!(words(&get(&mut ann, &id).await), Some("2"));
    edit(&mut cid, &admins, "2").await;
    edit(&mut world.backend(), &systems, "2").await;
    delete(&mut ann, &id).await;
    room.set_rules(LogRules::default()).await;
    let other = send(&mut ann, "lobby", "1").await.message_id;
    edit(&mut ann, &other, "2").await;
}

/// B-193.
async fn a_deleted_message_is_not_edited(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let id = send(&mut ann, "lobby", "1").await.message_id;
    delete(&mut ann, &id).await;

    refused(ann.messages.edit_message(editing(&id, "2")).await, Reason::MessageDeleted);
    assert_eq!(get(&mut ann, &id).await.content, None);
}

/// B-073, B-176, B-184.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_message_call(&world, async |mut client: Client, id: &str| {
        client.messages.edit_message(editing(id, "x")).await.map(drop)
    })
    .await;
}

/// B-112, B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let id = send(&mut ann, "lobby", "1").await.message_id;
    for bad in bad_message_ids() {
        violates(ann.messages.edit_message(editing(bad, "x")).await, "message_id");
    }
    for request_id in bad_ids().into_iter().filter(|id| !id.is_empty()) {
        let request = EditMessageRequest { request_id, ..editing(&id, "x") };
        violates(ann.messages.edit_message(request).await, "request_id");
    }
    let none = EditMessageRequest { content: None, ..editing(&id, "x") };
    violates(ann.messages.edit_message(none).await, "content");
    let reply = MessageContent { reply_to_message_id: id.clone(), ..text("x") };
    let bad = [(reply, "content.reply_to_message_id")];
    for (content, field) in bad_contents().into_iter().chain(bad) {
        let request = EditMessageRequest { content: Some(content), ..editing(&id, "x") };
        let result: Result<Response<_>, Status> = ann.messages.edit_message(request).await;
        violates(result, field);
    }
    assert_eq!(words(&get(&mut ann, &id).await), Some("1"));
}
