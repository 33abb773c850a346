//! `RecountUnread`.

use parlance_db::{AssertSqlSafe, Db, rows, test_on_each_db};
use parlance_proto::message::v1::{
    MarkReadRequest, RecountUnreadRequest, RecountUnreadResponse, SendMessageRequest,
};
use parlance_rpc::Reason;
use parlance_types::MAX_ANSWER;
use prost::Message as _;
use uuid::Uuid;

use crate::harness::{Client, TENANT, World, delete, refused, saying, send, unread};
use crate::rooms::group;

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_recount_agrees_with_the_counts,
    a_recount_agrees_while_rooms_move,
    counts_are_of_a_user,
    differences_beyond_what_an_answer_holds_are_cut_and_counted_all_the_same,
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

/// Clients accept answers of 4 MiB. Ids are longer here than they can be, so that fewer rooms do.
async fn differences_beyond_what_an_answer_holds_are_cut_and_counted_all_the_same(db: Db) {
    const ROOMS: usize = 4000;
    let world = World::open(db.clone()).await;
    let logs: Vec<Uuid> = (0..ROOMS).map(|_| Uuid::now_v7()).collect();
    for logs in logs.chunks(500) {
        // Two messages that bob has not read, as the counters say, and none that is stored.
        let heads = rows(
            2,
            logs.len(),
            "($+, $1, $+, 2, 3, 1, 2, 1, 1, 0, 1, NULL, TRUE, 1, FALSE, 1, 1, 1, 0)",
        );
        let heads = format!(
            "INSERT INTO heads (log_id, tenant_id, room_id, kind, head, head_time, ord, first_seq,
                                first_ord, deleted, message_time, closed_seq, peopled, post_rule,
                                allow_preview, history, epoch, applied_membership, applied_room)
             VALUES {heads}"
        );
        let mut heads = db.write(AssertSqlSafe(heads)).once().bind(TENANT);
        for log_id in logs {
            heads = heads.bind(*log_id).bind(format!("{}{log_id}", "a".repeat(964)));
        }
        heads.execute().await.expect("rooms");
        let members = rows(2, logs.len(), "($+, 'bob', $1, 1, 1, 1, 1, 0, 1, FALSE)");
        let members = format!(
            "INSERT INTO members (log_id, user_id, tenant_id, role, joined_seq, joined_time,
                                  read_seq, read_ord, delivered_seq, marked_unread)
             VALUES {members}"
        );
        let mut members = db.write(AssertSqlSafe(members)).once().bind(TENANT);
        for log_id in logs {
            members = members.bind(*log_id);
        }
        members.execute().await.expect("members");
    }
    let found = recount(&mut world.user("bob")).await;
    assert_eq!((found.rooms_checked, found.total), (4000, 0));
    let (told, size) = (found.differences.len(), found.encoded_len());
    assert!(told < ROOMS && size <= MAX_ANSWER && size > MAX_ANSWER / 10 * 9, "{told}: {size}");
    assert!(found.differences.iter().all(|it| (it.reported, it.counted) == (2, 0)));
}
