//! `RecountUnread`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{
    MarkReadRequest, RecountUnreadRequest, RecountUnreadResponse, SendMessageRequest,
};
use parlance_rpc::Reason;

use crate::harness::{Client, World, delete, refused, saying, send, unread};
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
        let hello = saying(if n < 8 { "lobby" } else { "cellar" }, "hello");
        let request = SendMessageRequest { uncounted: n % 4 == 3, ..hello };
        let sent = ann.messages.send_message(request).await.expect("send").into_inner();
        ids.push(sent.message_id);
    }
    // Of the lobby's 3..=10, 6 and 10 are uncounted, 4 and 5 are deleted.
    for id in [1, 2] {
        delete(&mut ann, &ids[id]).await;
    }
    let room_id = "lobby".to_owned();
    bob.marks.mark_read(MarkReadRequest { room_id, seq: 4 }).await.expect("mark");
    // Left: 7, 8 and 9 of the lobby, 3 and 4 of the cellar.
    let found = recount(&mut bob).await;
    assert_eq!((found.rooms_checked, found.total, found.differences), (2, 5, vec![]));
    assert_eq!(unread(&mut bob).await, 5);

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
                delete(&mut ann, &sent.message_id).await;
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
