//! Cursors after a backup was restored and nobody said so: server, file and epoch are the same.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::list_messages_request::Position;
use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::Principal;
use parlance_rpc::testing::{called_by, caller};
use parlance_types::{Clock, Seq, SystemClock, UserId};

use crate::rooms::{Room, group};
use crate::stream::harness::{Node, Reader, from, node, tenant, text};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_cursor_of_an_event_that_is_another_now_is_reset,
    a_cursor_beyond_the_restored_head_is_reset,
    what_was_read_can_be_followed,
);

/// Puts a log back to where it stood at `head`, as a restored backup does.
async fn restore(db: &Db, room: &Room, head: Seq) {
    let mut tx = db.begin().await.expect("begin");
    let delete = "DELETE FROM events WHERE log_id = $1 AND seq > $2";
    tx.query(delete).bind(room.log_id.0).bind(head).execute().await.expect("deleted");
    let update = "
        UPDATE heads SET head = $2,
               head_time = (SELECT e.time FROM events e WHERE e.log_id = $1 AND e.seq = $2),
               ord = (SELECT e.ord FROM events e WHERE e.log_id = $1 AND e.seq = $2)
         WHERE log_id = $1";
    tx.query(update).bind(room.log_id.0).bind(head).execute().await.expect("put back");
    tx.commit().await.expect("committed");
    // Nobody restores a backup in the millisecond in which something was written.
    let now = SystemClock.now();
    while SystemClock.now() < now + 2000 {}
}

/// A room up to 12, with cursors of all its events.
async fn room(node: &Node) -> (Room, Vec<pb::Cursor>) {
    let room = group(node, "r", &["ann"]).await;
    for n in 3..=12 {
        node.send(&room, &format!("old {n}")).await;
    }
    let mut reader = node.subscribe("ann", from(&room, "", 0)).await;
    let epoch = reader.attached().await.epoch;
    let events = reader.events_until(12).await;
    let cursor =
        |event: pb::Event| pb::Cursor { epoch: epoch.clone(), seq: event.seq, time: event.time };
    (room, events.into_iter().map(cursor).collect())
}

/// The same after a backup of 6 was put back.
async fn restored(db: &Db) -> (Room, Vec<pb::Cursor>) {
    let first = node(db).await;
    let (room, cursors) = room(&first).await;
    first.store.close().await;
    restore(db, &room, 6).await;
    (room, cursors)
}

async fn resume(node: &Node, room: &Room, cursor: &pb::Cursor) -> Reader {
    let (room_id, cursor) = (room.id.to_string(), Some(cursor.clone()));
    let rooms = vec![pb::RoomCursor { room_id, cursor }];
    node.subscribe("ann", pb::SubscribeRequest { rooms, ..Default::default() }).await
}

async fn a_cursor_of_an_event_that_is_another_now_is_reset(db: Db) {
    let (room, cursors) = restored(&db).await;
    // Senders come first: what readers hold as 7 to 12 are other messages now. No writer
    // notices, for it is the same server.
    let node = node(&db).await;
    for n in 7..=14 {
        node.send(&room, &format!("new {n}")).await;
    }
    for cursor in &cursors {
        let mut reader = resume(&node, &room, cursor).await;
        let mut held = cursor.seq;
        if cursor.seq > 6 {
            let Frame::Reset(reset) = reader.next().await else { panic!("a reset") };
            assert_eq!(reset.reason(), pb::ResetReason::Rewound);
            assert!(reset.keep_through <= 6, "{reset:?}");
            held = reset.resume_from;
        }
        let attached = reader.attached().await;
        assert_eq!((attached.resume_from, attached.head), (held, 14));
        let events = reader.events_until(14).await;
        let last = events.iter().map(|event| text(event).unwrap_or_default()).next_back();
        assert_eq!(
            (events.len(), last),
            (usize::try_from(14 - held).expect("few"), Some("new 14"))
        );
    }
    // Without a time a cursor means what it always did.
    let blind = pb::Cursor { time: None, ..cursors[9].clone() };
    let same_epoch = matches!(db, Db::Postgres(_));
    let mut reader = resume(&node, &room, &blind).await;
    assert_eq!(matches!(reader.next().await, Frame::Attached(_)), same_epoch);
}

async fn a_cursor_beyond_the_restored_head_is_reset(db: Db) {
    let (room, cursors) = restored(&db).await;
    let node = node(&db).await;
    let mut reader = resume(&node, &room, &cursors[11]).await;
    let Frame::Reset(reset) = reader.next().await else { panic!("a reset") };
    assert!(reset.keep_through <= 6, "{reset:?}");
    assert_eq!(reader.attached().await.head, 6);
}

/// Between a page and the stream that follows it nothing is missed.
async fn what_was_read_can_be_followed(db: Db) {
    let node = node(&db).await;
    let (room, _) = room(&node).await;
    let ann = caller(tenant().as_str(), Principal::User(UserId::new("ann")));
    let services = called_by(node.service.public(), ann, None);
    let mut messages = MessageServiceClient::new(services);
    let request = pb::ListMessagesRequest {
        room_id: room.id.to_string(),
        position: Some(Position::BeforeSeq(8)),
        ..Default::default()
    };
    let page = messages.list_messages(request).await.expect("a page").into_inner();
    let message_id = page.messages[0].message_id.clone();
    let got = messages.get_message(pb::GetMessageRequest { message_id }).await.expect("one");
    node.send(&room, "after the page").await;
    for cursor in [page.cursor, got.into_inner().cursor] {
        let cursor = cursor.expect("a cursor");
        assert_eq!(cursor.seq, 12);
        let mut reader = resume(&node, &room, &cursor).await;
        assert_eq!(reader.attached().await.resume_from, 12);
        assert_eq!(text(&reader.event().await), Some("after the page"));
    }
}
