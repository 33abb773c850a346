//! `ListReceipts`.

use std::collections::BTreeSet;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use tonic::{Response, Status};

use crate::harness::{Client, World, bad_ids, send, violates};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    the_marks_of_all_members_are_read_by_each_of_them,
    pages_hold_every_member_once,
    a_channel_shows_users_their_own_marks,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

type Marks = Vec<(String, i64, i64)>;

fn lobby(page_size: i32, page_token: &str) -> pb::ListReceiptsRequest {
    let (room_id, page_token) = ("lobby".to_owned(), page_token.to_owned());
    pb::ListReceiptsRequest { room_id, page_size, page_token }
}

async fn list(
    client: &mut Client,
    request: pb::ListReceiptsRequest,
) -> Result<(Marks, String), Status> {
    let page = client.marks.list_receipts(request).await?.into_inner();
    let of = |receipt: pb::Receipt| (receipt.user_id, receipt.read_seq, receipt.delivered_seq);
    Ok((page.receipts.into_iter().map(of).collect(), page.next_page_token))
}

async fn all(client: &mut Client) -> Marks {
    let (marks, next) = list(client, lobby(0, "")).await.expect("a page");
    assert_eq!(next, "");
    marks
}

fn marks<const N: usize>(marks: [(&str, i64, i64); N]) -> Marks {
    marks.map(|(user, read, delivered)| (user.to_owned(), read, delivered)).into()
}

/// B-119, B-120, B-122.
async fn the_marks_of_all_members_are_read_by_each_of_them(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob", "cid"]).await;
    for _ in 0..3 {
        send(&mut world.user("ann"), "lobby", "hello").await;
    }
    let mut bob = world.user("bob");
    let read = pb::MarkReadRequest { room_id: "lobby".to_owned(), seq: 4 };
    bob.marks.mark_read(read).await.expect("marked");
    let delivered = pb::MarkDeliveredRequest { room_id: "lobby".to_owned(), seq: 5 };
    bob.marks.mark_delivered(delivered).await.expect("marked");
    room.leave("cid").await;
    // Answering is reading.
    let expected = marks([("ann", 5, 5), ("bob", 4, 5)]);
    for mut client in [world.user("ann"), bob, world.service_for("bob"), world.backend()] {
        assert_eq!(all(&mut client).await, expected);
    }
    let joined = room.join("cid").await;
    assert_eq!(all(&mut world.user("cid")).await[2], ("cid".to_owned(), joined, joined));
}

async fn pages_hold_every_member_once(db: Db) {
    let world = World::open(db).await;
    let users: Vec<_> = (0..120).map(|n| format!("user {n}")).collect();
    let room = plan("lobby").members(&users.iter().map(String::as_str).collect::<Vec<_>>());
    let room = room.make(&world).await;
    let mut ann = world.user("user 0");
    assert_eq!(list(&mut ann, lobby(0, "")).await.expect("a page").0.len(), 10);
    let (first, next) = list(&mut ann, lobby(1000, "")).await.expect("a page");
    assert_eq!(first.len(), 100);
    // The member that the token stands on leaves.
    room.leave(&first[99].0).await;
    let (second, none) = list(&mut ann, lobby(20, &next)).await.expect("a page");
    assert_eq!((second.len(), none.as_str()), (20, ""));
    let listed: Vec<_> = first.into_iter().chain(second).map(|(user, ..)| user).collect();
    assert!(listed.is_sorted());
    assert_eq!(BTreeSet::from_iter(listed), BTreeSet::from_iter(users));
    let other = list(&mut world.user("user 1"), lobby(20, &next)).await;
    violates(other.map(Response::new), "page_token");
}

/// B-056, B-125.
async fn a_channel_shows_users_their_own_marks(db: Db) {
    let world = World::open(db).await;
    plan("lobby").kind(RoomKind::Channel).members(&["ann", "bob"]).make(&world).await;
    assert_eq!(all(&mut world.user("bob")).await, marks([("bob", 2, 2)]));
    let both = marks([("ann", 2, 2), ("bob", 2, 2)]);
    assert_eq!(all(&mut world.backend()).await, both);
}

/// B-073, B-176, B-184.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |mut client: Client, room: &str| {
        let request = pb::ListReceiptsRequest { room_id: room.to_owned(), ..lobby(0, "") };
        client.marks.list_receipts(request).await.map(drop)
    })
    .await;
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    for room_id in bad_ids() {
        let request = pb::ListReceiptsRequest { room_id, ..lobby(0, "") };
        violates(ann.marks.list_receipts(request).await, "room_id");
    }
    violates(ann.marks.list_receipts(lobby(-1, "")).await, "page_size");
    violates(ann.marks.list_receipts(lobby(0, "made up")).await, "page_token");
}
