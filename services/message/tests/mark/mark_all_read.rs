//! `MarkAllRead`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::MarkAllReadRequest;
use parlance_rpc::Reason;

use crate::harness::{Client, World, bad_ids, refused, send, unread, violates};
use crate::rights;
use crate::rooms::group;

test_on_each_db!(parlance_message::MIGRATIONS =>
    the_mark_rises_to_the_head_and_says_where,
    a_mark_is_of_a_user,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

fn lobby() -> MarkAllReadRequest {
    MarkAllReadRequest { room_id: "lobby".to_owned() }
}

/// B-121.
async fn the_mark_rises_to_the_head_and_says_where(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let mut bob = world.user("bob");
    let mut receipts = world.follow("lobby").await;
    for read in [4, 6] {
        send(&mut world.user("ann"), "lobby", "hello").await;
        room.join("cid").await;
        for _ in 0..2 {
            let marked = bob.marks.mark_all_read(lobby()).await.expect("mark").into_inner();
            assert_eq!(marked.read_seq, read);
        }
        assert_eq!(unread(&mut bob).await, 0);
        assert_eq!(receipts.receipt().await, ("bob".to_owned(), read, read));
    }
}

async fn a_mark_is_of_a_user(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    refused(world.backend().marks.mark_all_read(lobby()).await, Reason::UserRequired);
}

/// B-073, B-176, B-184.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |mut client: Client, room: &str| {
        let request = MarkAllReadRequest { room_id: room.to_owned() };
        client.marks.mark_all_read(request).await.map(drop)
    })
    .await;
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    for room_id in bad_ids() {
        let request = MarkAllReadRequest { room_id };
        violates(world.user("ann").marks.mark_all_read(request).await, "room_id");
    }
}
