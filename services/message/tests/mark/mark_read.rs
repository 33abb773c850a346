//! `MarkRead`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{MarkReadRequest, RoomKind};
use parlance_rpc::{Principal, Reason};

use crate::harness::{Client, TENANT, World, bad_ids, refused, send, violates};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_mark_rises_and_never_falls,
    a_receipt_is_told_when_the_mark_moves,
    a_channel_tells_no_receipts,
    a_mark_beyond_the_head_is_refused,
    a_mark_is_of_a_user,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

fn lobby(seq: i64) -> MarkReadRequest {
    MarkReadRequest { room_id: "lobby".to_owned(), seq }
}

async fn mark(client: &mut Client, seq: i64) -> i64 {
    client.marks.mark_read(lobby(seq)).await.expect("mark").into_inner().read_seq
}

/// B-117, B-119, B-122, B-207.
async fn a_mark_rises_and_never_falls(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    for _ in 0..3 {
        send(&mut world.user("ann"), "lobby", "hello").await;
    }
    let mut bob = world.user("bob");
    for (seq, read) in [(4, 4), (3, 4), (4, 4), (1, 4), (5, 5)] {
        assert_eq!(mark(&mut bob, seq).await, read, "{seq}");
    }
}

/// B-119.
async fn a_receipt_is_told_when_the_mark_moves(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    plan("pair").kind(RoomKind::Direct).members(&["ann", "bob"]).make(&world).await;
    for room_id in ["lobby", "pair"] {
        for _ in 0..2 {
            send(&mut world.user("ann"), room_id, "hello").await;
        }
        let mut receipts = world.follow(room_id).await;
        let mut bob = world.user("bob");
        let mut mark = async |seq| {
            let request = MarkReadRequest { room_id: room_id.to_owned(), seq };
            bob.marks.mark_read(request).await.expect("mark");
        };
        mark(3).await;
        // What is read was delivered.
        assert_eq!(receipts.receipt().await, ("bob".to_owned(), 3, 3));
        for seq in [3, 1, 4] {
            mark(seq).await;
        }
        assert_eq!(receipts.receipt().await, ("bob".to_owned(), 4, 4));
    }
}

/// B-056, B-126.
async fn a_channel_tells_no_receipts(db: Db) {
    let world = World::open(db).await;
    plan("lobby").kind(RoomKind::Channel).members(&["ann", "bob"]).make(&world).await;
    send(&mut world.user("ann"), "lobby", "hello").await;
    let mut frames = world.follow("lobby").await;
    assert_eq!(mark(&mut world.user("bob"), 3).await, 3);
    for _ in 0..2 {
        send(&mut world.user("ann"), "lobby", "hello").await;
        assert!(matches!(frames.next().await, Frame::Event(_)));
    }
}

async fn a_mark_beyond_the_head_is_refused(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    send(&mut world.user("ann"), "lobby", "hello").await;
    let mut bob = world.user("bob");
    for seq in [4, i64::MAX] {
        violates(bob.marks.mark_read(lobby(seq)).await, "seq");
    }
    assert_eq!(mark(&mut bob, 3).await, 3);
    refused(world.user("eve").marks.mark_read(lobby(9)).await, Reason::NotAMember);
}

async fn a_mark_is_of_a_user(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    for principal in [Principal::Service, Principal::Operator] {
        let mut nobody = world.client(TENANT, principal);
        refused(nobody.marks.mark_read(lobby(1)).await, Reason::UserRequired);
    }
    let mut for_ann = world.service_for("ann");
    assert_eq!(mark(&mut for_ann, 2).await, 2);
}

/// B-073, B-176, B-184.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |mut client: Client, room: &str| {
        let request = MarkReadRequest { room_id: room.to_owned(), seq: 1 };
        client.marks.mark_read(request).await.map(drop)
    })
    .await;
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    let mut ann = world.user("ann");
    for room_id in bad_ids() {
        violates(ann.marks.mark_read(MarkReadRequest { room_id, seq: 1 }).await, "room_id");
    }
    for seq in [0, -1, i64::MIN] {
        violates(ann.marks.mark_read(lobby(seq)).await, "seq");
    }
}
