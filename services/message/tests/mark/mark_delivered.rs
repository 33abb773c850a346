//! `MarkDelivered`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{MarkDeliveredRequest, MarkReadRequest, RoomKind};
use parlance_rpc::Reason;

use crate::harness::{Client, World, bad_ids, refused, send, unread, violates};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_mark_rises_and_never_falls_nor_below_what_is_read,
    it_reads_nothing,
    a_receipt_is_told_when_the_mark_moves,
    a_mark_beyond_the_head_is_refused,
    a_mark_is_of_a_user,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

fn lobby(seq: i64) -> MarkDeliveredRequest {
    MarkDeliveredRequest { room_id: "lobby".to_owned(), seq }
}

async fn mark(client: &mut Client, seq: i64) -> i64 {
    client.marks.mark_delivered(lobby(seq)).await.expect("mark").into_inner().delivered_seq
}

/// A group of Ann and Bob with three messages, and Bob's client.
async fn bob(world: &World) -> Client {
    group(world, "lobby", &["ann", "bob"]).await;
    for _ in 0..3 {
        send(&mut world.user("ann"), "lobby", "hello").await;
    }
    world.user("bob")
}

/// B-117, B-118, B-122, B-207.
async fn a_mark_rises_and_never_falls_nor_below_what_is_read(db: Db) {
    let world = World::open(db).await;
    let mut bob = bob(&world).await;
    for (seq, delivered) in [(3, 3), (1, 3), (3, 3)] {
        assert_eq!(mark(&mut bob, seq).await, delivered, "{seq}");
    }
    let read = MarkReadRequest { room_id: "lobby".to_owned(), seq: 5 };
    bob.marks.mark_read(read).await.expect("mark");
    assert_eq!(mark(&mut bob, 4).await, 5);
}

async fn it_reads_nothing(db: Db) {
    let world = World::open(db).await;
    let mut bob = bob(&world).await;
    mark(&mut bob, 5).await;
    assert_eq!(unread(&mut bob).await, 3);
}

/// B-056, B-118, B-126.
async fn a_receipt_is_told_when_the_mark_moves(db: Db) {
    let world = World::open(db).await;
    let mut bob = bob(&world).await;
    let mut receipts = world.follow("lobby").await;
    mark(&mut bob, 3).await;
    assert_eq!(receipts.receipt().await, ("bob".to_owned(), 2, 3));
    for seq in [3, 1, 4] {
        mark(&mut bob, seq).await;
    }
    assert_eq!(receipts.receipt().await, ("bob".to_owned(), 2, 4));

    let channel = plan("channel").kind(RoomKind::Channel).members(&["bob"]);
    channel.make(&world).await;
    send(&mut world.backend(), "channel", "hello").await;
    let mut frames = world.follow("channel").await;
    let request = MarkDeliveredRequest { room_id: "channel".to_owned(), seq: 3 };
    bob.marks.mark_delivered(request).await.expect("mark");
    for _ in 0..2 {
        send(&mut world.backend(), "channel", "hello").await;
        assert!(matches!(frames.next().await, Frame::Event(_)));
    }
}

async fn a_mark_beyond_the_head_is_refused(db: Db) {
    let world = World::open(db).await;
    let mut bob = bob(&world).await;
    for seq in [6, i64::MAX] {
        violates(bob.marks.mark_delivered(lobby(seq)).await, "seq");
    }
    refused(world.user("eve").marks.mark_delivered(lobby(9)).await, Reason::NotAMember);
}

async fn a_mark_is_of_a_user(db: Db) {
    let world = World::open(db).await;
    bob(&world).await;
    refused(world.backend().marks.mark_delivered(lobby(1)).await, Reason::UserRequired);
}

/// B-073, B-176, B-184.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |mut client: Client, room: &str| {
        let request = MarkDeliveredRequest { room_id: room.to_owned(), seq: 1 };
        client.marks.mark_delivered(request).await.map(drop)
    })
    .await;
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    let mut ann = world.user("ann");
    for room_id in bad_ids() {
        let request = MarkDeliveredRequest { room_id, seq: 1 };
        violates(ann.marks.mark_delivered(request).await, "room_id");
    }
    for seq in [0, -1, i64::MIN] {
        violates(ann.marks.mark_delivered(lobby(seq)).await, "seq");
    }
}
