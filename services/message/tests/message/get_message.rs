//! `GetMessage`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{GetMessageRequest, Message, RoomKind};
use parlance_rpc::{Principal, Reason};
use tonic::{Response, Status};

use crate::harness::{Client, TENANT, World, bad_message_ids, refused, send, violates, words};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_member_reads_a_message_as_it_was_sent,
    a_new_member_reads_what_was_before,
    a_member_who_sees_since_the_join_reads_from_there_on,
    a_service_that_acts_for_nobody_reads_every_room,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

async fn get(client: &mut Client, message_id: &str) -> Result<Response<Message>, Status> {
    let request = GetMessageRequest { message_id: message_id.to_owned() };
    let reply = client.messages.get_message(request).await?.into_inner();
    Ok(Response::new(reply.message.expect("a message")))
}

async fn a_member_reads_a_message_as_it_was_sent(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    let sent = send(&mut world.user("ann"), "lobby", "hello").await;

    let read = get(&mut world.user("bob"), &sent.message_id).await.expect("get").into_inner();

    assert_eq!((read.message_id.as_str(), read.seq), (sent.message_id.as_str(), 3));
    assert_eq!((read.room_id.as_str(), read.sender_id.as_str()), ("lobby", "ann"));
    assert_eq!((words(&read), read.send_time), (Some("hello"), sent.send_time));
    assert_eq!((read.uncounted, read.edit_seq, read.delete_seq), (false, 0, 0));
    assert_eq!(read.edit_time, None);
}

/// B-067.
async fn a_new_member_reads_what_was_before(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let sent = send(&mut world.user("ann"), "lobby", "hello").await;
    let mut bob = world.user("bob");
    refused(get(&mut bob, &sent.message_id).await, Reason::NotAMember);
    room.join("bob").await;
    get(&mut bob, &sent.message_id).await.expect("get");
}

/// B-200.
async fn a_member_who_sees_since_the_join_reads_from_there_on(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").since_join().members(&["ann"]).make(&world).await;
    let before = send(&mut world.user("ann"), "lobby", "before").await.message_id;
    room.join("bob").await;
    let after = send(&mut world.user("ann"), "lobby", "after").await.message_id;

    let mut bob = world.user("bob");
    refused(get(&mut bob, &before).await, Reason::MessageNotFound);
    get(&mut bob, &after).await.expect("get");
    room.leave("bob").await;
    refused(get(&mut bob, &after).await, Reason::NotAMember);
}

/// B-086.
async fn a_service_that_acts_for_nobody_reads_every_room(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").kind(RoomKind::Direct).since_join().members(&["ann", "bob"]);
    room.make(&world).await;
    let id = send(&mut world.user("ann"), "lobby", "hello").await.message_id;
    for principal in [Principal::Service, Principal::Operator] {
        get(&mut world.client(TENANT, principal), &id).await.expect("get");
    }
}

/// B-073, B-176, B-184, B-200.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_message_call(&world, async |mut client: Client, id: &str| {
        get(&mut client, id).await.map(drop)
    })
    .await;
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    for bad in bad_message_ids() {
        violates(get(&mut world.user("ann"), bad).await, "message_id");
    }
}
