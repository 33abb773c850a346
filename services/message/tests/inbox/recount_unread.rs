//! `RecountUnread`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{
    DeleteMessageRequest, GetUnreadRequest, MarkReadRequest, RecountUnreadRequest,
    RecountUnreadResponse, SendMessageRequest,
};
use parlance_rpc::Reason;

use crate::harness::{Client, World, refused, send, text};
use crate::rooms::group;

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_recount_agrees_with_the_counts,
    a_recount_agrees_while_rooms_move,
    counts_are_of_a_user,
);

async fn recount(client: &mut Client) -> RecountUnreadResponse {
    client.inbox.recount_unread(RecountUnreadRequest {}).await.expect("recount").into_inner()
}

/// B-124, B-127.
async fn a_recount_agrees_with_the_counts(db: Db) {
    let world = World::open(db).await;
    let mut bob = world.user("bob");
    assert_eq!(recount(&mut bob).await, RecountUnreadResponse::default());

    let room = group(&world, "lobby", &["ann", "bob"]).await;
    group(&world, "cellar", &["ann", "bob"]).await;
    group(&world, "anns", &["ann"]).await;
    let mut ann = world.user("ann");
    let mut ids = Vec::new();
    for n in 0..10 {
        let request = SendMessageRequest {
            room_id: if n < 8 { "lobby" } else { "cellar" }.to_owned(),
            content: Some(text("hello")),
            uncounted: n % 4 == 3,
            ..SendMessageRequest::default()
        };
        let sent = ann.messages.send_message(request).await.expect("send").into_inner();
        ids.push(sent.message_id);
    }
    // Of the lobby's 3..=10, 6 and 10 are uncounted, 4 and 5 are deleted.
    for id in [1, 2] {
        let message_id = ids[id].clone();
        ann.messages.delete_message(DeleteMessageRequest { message_id }).await.expect("delete");
    }
    let room_id = "lobby".to_owned();
    bob.marks.mark_read(MarkReadRequest { room_id, seq: 4 }).await.expect("mark");
    // Left: 7, 8 and 9 of the lobby, 3 and 4 of the cellar.
    let found = recount(&mut bob).await;
    assert_eq!((found.rooms_checked, found.total, found.differences), (2, 5, vec![]));
    let unread = bob.inbox.get_unread(GetUnreadRequest::default()).await.expect("unread");
    assert_eq!(unread.into_inner().total, 5);

    room.leave("bob").await;
    let found = recount(&mut bob).await;
    assert_eq!((found.rooms_checked, found.total, found.differences), (1, 2, vec![]));
}

async fn a_recount_agrees_while_rooms_move(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    let mut bob = world.user("bob");
    let moving = async {
        let mut ann = world.user("ann");
        for n in 0..30 {
            let sent = send(&mut ann, "lobby", "hello").await;
            if n % 3 == 0 {
                let message_id = sent.message_id;
                let request = DeleteMessageRequest { message_id };
                ann.messages.delete_message(request).await.expect("delete");
            }
        }
    };
    let counting = async {
        for _ in 0..30 {
            assert_eq!(recount(&mut bob).await.differences, []);
        }
    };
    tokio::join!(moving, counting);
}

async fn counts_are_of_a_user(db: Db) {
    let world = World::open(db).await;
    let mut nobody = world.backend();
    refused(nobody.inbox.recount_unread(RecountUnreadRequest {}).await, Reason::UserRequired);
}
