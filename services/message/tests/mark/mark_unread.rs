//! `MarkUnread`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{
    GetUnreadRequest, MarkAllReadRequest, MarkReadRequest, MarkUnreadRequest, RoomUnread,
};
use parlance_rpc::Reason;

use crate::harness::{Client, World, bad_ids, refused, send, violates};
use crate::rights;
use crate::rooms::group;

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_flag_holds_until_the_next_mark_and_counts_nothing,
    a_flag_is_of_a_user,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

fn lobby() -> MarkUnreadRequest {
    MarkUnreadRequest { room_id: "lobby".to_owned() }
}

async fn unread(client: &mut Client) -> RoomUnread {
    let request =
        GetUnreadRequest { room_ids: vec!["lobby".to_owned()], ..GetUnreadRequest::default() };
    let mut reply = client.inbox.get_unread(request).await.expect("unread").into_inner();
    let lobby = reply.rooms.pop().expect("the lobby");
    RoomUnread { cursor: None, ..lobby }
}

async fn a_flag_holds_until_the_next_mark_and_counts_nothing(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    send(&mut world.user("ann"), "lobby", "hello").await;
    let mut bob = world.user("bob");
    let room_id = "lobby".to_owned();
    let read = RoomUnread { room_id, read_seq: 3, ..RoomUnread::default() };
    let flagged = RoomUnread { marked_unread: true, ..read.clone() };

    bob.marks
        .mark_all_read(MarkAllReadRequest { room_id: read.room_id.clone() })
        .await
        .expect("mark");
    for _ in 0..2 {
        bob.marks.mark_unread(lobby()).await.expect("flag");
        assert_eq!(unread(&mut bob).await, flagged);
    }
    // A mark clears it, also one that does not move.
    let mark = MarkReadRequest { room_id: read.room_id.clone(), seq: 1 };
    bob.marks.mark_read(mark).await.expect("mark");
    assert_eq!(unread(&mut bob).await, read);
    bob.marks.mark_unread(lobby()).await.expect("flag");
    bob.marks
        .mark_all_read(MarkAllReadRequest { room_id: read.room_id.clone() })
        .await
        .expect("mark");
    assert_eq!(unread(&mut bob).await, read);
    // It is of the member who set it.
    bob.marks.mark_unread(lobby()).await.expect("flag");
    assert!(!unread(&mut world.user("ann")).await.marked_unread);
}

async fn a_flag_is_of_a_user(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    refused(world.backend().marks.mark_unread(lobby()).await, Reason::UserRequired);
}

/// B-073, B-176, B-184.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |mut client: Client, room: &str| {
        let request = MarkUnreadRequest { room_id: room.to_owned() };
        client.marks.mark_unread(request).await.map(drop)
    })
    .await;
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    for room_id in bad_ids() {
        let request = MarkUnreadRequest { room_id };
        violates(world.user("ann").marks.mark_unread(request).await, "room_id");
    }
}
