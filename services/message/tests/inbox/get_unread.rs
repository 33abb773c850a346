//! `GetUnread`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{
    GetUnreadRequest, GetUnreadResponse, MarkReadRequest, RoomUnread, SendMessageRequest,
};
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;

use crate::harness::{Client, World, bad_ids, delete, refused, saying, send, violates};
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    what_others_sent_since_the_mark_is_unread,
    what_is_uncounted_or_deleted_is_not_unread,
    the_total_is_over_all_rooms_and_the_rest_as_asked,
    rooms_of_others_are_left_out,
    counts_are_of_a_user,
    bad_input_is_refused_by_name,
);

fn asking(rooms: &[&str]) -> GetUnreadRequest {
    GetUnreadRequest {
        room_ids: rooms.iter().map(|&room| room.to_owned()).collect(),
        ..GetUnreadRequest::default()
    }
}

async fn unread(client: &mut Client, rooms: &[&str]) -> GetUnreadResponse {
    client.inbox.get_unread(asking(rooms)).await.expect("unread").into_inner()
}

async fn in_lobby(client: &mut Client) -> (i64, i64) {
    let reply = unread(client, &["lobby"]).await;
    (reply.rooms[0].unread, reply.rooms[0].read_seq)
}

/// B-123.
async fn what_others_sent_since_the_mark_is_unread(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    for _ in 0..3 {
        send(&mut ann, "lobby", "hello").await;
    }
    assert_eq!(in_lobby(&mut bob).await, (3, 2));
    // The own last message is the mark of who sent it.
    assert_eq!(in_lobby(&mut ann).await, (0, 5));

    let room_id = "lobby".to_owned();
    bob.marks.mark_read(MarkReadRequest { room_id, seq: 4 }).await.expect("mark");
    assert_eq!(in_lobby(&mut bob).await, (1, 4));
    // Answering is reading.
    send(&mut bob, "lobby", "hi").await;
    assert_eq!((in_lobby(&mut bob).await, in_lobby(&mut ann).await), ((0, 6), (1, 5)));

    // A newcomer has nothing to catch up with, also one who was here before.
    room.join("cid").await;
    assert_eq!(in_lobby(&mut world.user("cid")).await, (0, 7));
    room.leave("ann").await;
    send(&mut bob, "lobby", "hi").await;
    room.join("ann").await;
    assert_eq!(in_lobby(&mut ann).await, (0, 10));
}

/// B-127.
async fn what_is_uncounted_or_deleted_is_not_unread(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let uncounted = SendMessageRequest { uncounted: true, ..saying("lobby", "psst") };
    ann.messages.send_message(uncounted).await.expect("send");
    assert_eq!(in_lobby(&mut bob).await.0, 0);

    let message_id = send(&mut ann, "lobby", "1").await.message_id;
    send(&mut ann, "lobby", "2").await;
    for _ in 0..2 {
        delete(&mut ann, &message_id).await;
        assert_eq!(in_lobby(&mut bob).await.0, 1);
    }
    send(&mut world.backend(), "lobby", "notice").await;
    assert_eq!(in_lobby(&mut bob).await.0, 2);
}

/// B-123, B-124.
async fn the_total_is_over_all_rooms_and_the_rest_as_asked(db: Db) {
    let world = World::open(db).await;
    for (room, messages) in [("a", 1), ("b", 2), ("c", 3)] {
        group(&world, room, &["ann", "bob"]).await;
        for _ in 0..messages {
            send(&mut world.user("ann"), room, "hello").await;
        }
    }
    let mut bob = world.user("bob");
    let all = unread(&mut bob, &[]).await;
    assert_eq!((all.rooms, all.total), (vec![], 6));

    let counts = |reply: &GetUnreadResponse| {
        let count = |room: &RoomUnread| {
            let stands = room.cursor.as_ref().map(|cursor| cursor.seq);
            (room.room_id.clone(), room.unread, room.marked_unread, room.read_seq, stands)
        };
        reply.rooms.iter().map(count).collect::<Vec<_>>()
    };
    let some = unread(&mut bob, &["c", "a"]).await;
    let room = |room: &str, unread| (room.to_owned(), unread, false, 2, Some(2 + unread));
    assert_eq!((counts(&some), some.total), (vec![room("c", 3), room("a", 1)], 6));
    // The total of these spares what the others cost.
    let room_ids = vec!["a".to_owned(), "nowhere".to_owned()];
    let these = GetUnreadRequest { room_ids, these_only: true };
    let these = bob.inbox.get_unread(these).await.expect("unread").into_inner();
    assert_eq!((counts(&these), these.total), (vec![room("a", 1)], 1));
    let mut for_bob = world.service_for("bob");
    assert_eq!(unread(&mut for_bob, &[]).await.total, 6);
}

/// B-123, B-176.
async fn rooms_of_others_are_left_out(db: Db) {
    let world = World::open(db).await;
    let left = group(&world, "left", &["ann", "bob"]).await;
    let closed = group(&world, "closed", &["ann", "bob"]).await;
    group(&world, "mine", &["ann", "bob"]).await;
    group(&world, "anns", &["ann"]).await;
    for room in ["left", "closed", "mine", "anns"] {
        send(&mut world.user("ann"), room, "hello").await;
    }
    left.leave("bob").await;
    closed.close().await;
    plan("mine").of_tenant("globex").members(&["ann", "bob"]).make(&world).await;

    let rooms = ["left", "closed", "mine", "anns", "nowhere"];
    let reply = unread(&mut world.user("bob"), &rooms).await;
    let named: Vec<_> = reply.rooms.iter().map(|room| room.room_id.as_str()).collect();
    assert_eq!((named, reply.total), (vec!["mine"], 1));

    let foreign = Principal::User(UserId::new("bob"));
    let reply = unread(&mut world.client("globex", foreign), &rooms).await;
    assert_eq!((reply.rooms.len(), reply.total), (1, 0));
    let reply = unread(&mut world.user("eve"), &rooms).await;
    assert_eq!((reply.rooms.len(), reply.total), (0, 0));
}

async fn counts_are_of_a_user(db: Db) {
    let world = World::open(db).await;
    refused(world.backend().inbox.get_unread(asking(&[])).await, Reason::UserRequired);
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    let mut ann = world.user("ann");
    for bad in bad_ids() {
        violates(ann.inbox.get_unread(asking(&["a", "b", "c", &bad])).await, "room_ids[3]");
    }
    violates(ann.inbox.get_unread(asking(&["a", "b", "a"])).await, "room_ids[2]");
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let request =
        |n: usize| GetUnreadRequest { room_ids: many[..n].to_vec(), ..GetUnreadRequest::default() };
    violates(ann.inbox.get_unread(request(101)).await, "room_ids");
    ann.inbox.get_unread(request(100)).await.expect("unread");
}
