//! `DeleteMessage`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{
    DeleteMessageRequest, ListMessagesRequest, MemberRole, SendMessageRequest,
};
use parlance_rpc::{Principal, Reason};

use crate::harness::{
    Client, TENANT, World, bad_message_ids, delete, edit, refused, saying, send, violates,
};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_deletion_erases_the_content_and_keeps_the_number,
    deleting_again_has_no_effect,
    the_sender_admins_and_services_delete,
    a_message_of_the_system_is_deleted_by_admins_and_services,
    a_repeated_send_of_a_deleted_message_gets_the_first_reply,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

fn deleting(message_id: &str) -> DeleteMessageRequest {
    DeleteMessageRequest { message_id: message_id.to_owned() }
}

/// B-105, B-106.
async fn a_deletion_erases_the_content_and_keeps_the_number(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    let mut ann = world.user("ann");
    let sent = send(&mut ann, "lobby", "secret").await;
    edit(&mut ann, &sent.message_id, "more secret").await;
    send(&mut ann, "lobby", "after").await;

    assert_eq!(delete(&mut ann, &sent.message_id).await, 6);

    let room_id = "lobby".to_owned();
    let list = ListMessagesRequest { room_id, ..ListMessagesRequest::default() };
    let page = world.user("bob").messages.list_messages(list).await.expect("list").into_inner();
    let [gone, after] = &page.messages[..] else { panic!("two messages: {page:?}") };
    assert_eq!((gone.seq, gone.delete_seq, &gone.content), (3, 6, &None));
    assert_eq!((gone.sender_id.as_str(), gone.send_time), ("ann", sent.send_time));
    assert_eq!((after.seq, after.delete_seq, after.content.is_some()), (5, 0, true));
}

async fn deleting_again_has_no_effect(db: Db) {
    let world = World::open(db).await;
    plan("lobby").members(&["ann"]).member("bob", MemberRole::Admin).make(&world).await;
    let mut ann = world.user("ann");
    let id = send(&mut ann, "lobby", "x").await.message_id;
    assert_eq!(delete(&mut ann, &id).await, 4);
    for mut again in [ann.clone(), world.user("bob"), world.backend()] {
        assert_eq!(delete(&mut again, &id).await, 4);
    }
    assert_eq!(send(&mut ann, "lobby", "next").await.seq, 5);
}

/// B-106.
async fn the_sender_admins_and_services_delete(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").members(&["ann", "bob"]);
    let room = room.member("cid", MemberRole::Admin).member("dee", MemberRole::Owner);
    room.make(&world).await;
    let for_ann = world.service_for("ann");
    let operator = world.client(TENANT, Principal::Operator);
    for mut client in [
        world.user("ann"),
        for_ann,
        world.user("cid"),
        world.user("dee"),
        world.backend(),
        operator,
    ] {
        let sent = send(&mut world.user("ann"), "lobby", "x").await;
        refused(
            world.user("bob").messages.delete_message(deleting(&sent.message_id)).await,
            Reason::NotTheSender,
        );
        assert_eq!(delete(&mut client, &sent.message_id).await, sent.seq + 1);
    }
}

async fn a_message_of_the_system_is_deleted_by_admins_and_services(db: Db) {
    let world = World::open(db).await;
    plan("lobby").members(&["ann"]).member("bob", MemberRole::Admin).make(&world).await;
    for mut client in [world.user("bob"), world.backend()] {
        let id = send(&mut world.backend(), "lobby", "notice").await.message_id;
        let refusal = world.user("ann").messages.delete_message(deleting(&id)).await;
        refused(refusal, Reason::NotTheSender);
        delete(&mut client, &id).await;
    }
}

async fn a_repeated_send_of_a_deleted_message_gets_the_first_reply(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let once = || SendMessageRequest { request_id: "r1".to_owned(), ..saying("lobby", "x") };
    let first = ann.messages.send_message(once()).await.expect("send").into_inner();
    delete(&mut ann, &first.message_id).await;
    assert_eq!(ann.messages.send_message(once()).await.expect("repeat").into_inner(), first);
}

/// B-073, B-176, B-184.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_message_call(&world, async |mut client: Client, id: &str| {
        client.messages.delete_message(deleting(id)).await.map(drop)
    })
    .await;
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    for bad in bad_message_ids() {
        violates(world.user("ann").messages.delete_message(deleting(bad)).await, "message_id");
    }
}
