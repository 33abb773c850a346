//! Broadcasts on the streams of a tenant's users.

use parlance_db::{Db, test_on_each_db};
use parlance_log::Store;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{self as pb, RoomKind};
use parlance_rpc::Reason;
use parlance_rpc::testing::refused;

use super::contacts::broadcast;
use crate::rooms::{group, plan};
use crate::stream::harness::{
    Mood, Reader, all_rooms, from, hints_only, latest, node, quick, seqs, tenant, two_nodes,
};
use crate::world::user;

test_on_each_db!(parlance_message::MIGRATIONS =>
    open_streams_hear_of_a_new_broadcast_on_every_node,
    a_lost_hint_of_a_new_broadcast_is_found_by_the_head_check,
    the_end_of_a_broadcast_is_told_to_everybody,
    a_stream_begins_at_the_head_or_with_the_whole_broadcast,
    a_cursor_of_a_broadcast_is_resumed_from,
    an_id_that_begins_a_new_life_is_followed_again,
);

async fn follow_all(node: &crate::stream::harness::Node, user: &str) -> Reader {
    // Of one room, so that the stream is known to have read its list.
    group(node, user, &[user]).await;
    let mut reader = node.subscribe(user, all_rooms(pb::StreamStart::Latest)).await;
    reader.live().await;
    reader
}

/// What a new broadcast begins with on a stream that was open before.
async fn begins(reader: &mut Reader) {
    let attached = reader.attached().await;
    assert_eq!((attached.room_id.as_str(), attached.resume_from), ("news", 0));
    assert_eq!(seqs(&reader.events_until(2).await), [1, 2]);
    assert_eq!(reader.caught_up().await, 2);
}

/// B-005.
async fn open_streams_hear_of_a_new_broadcast_on_every_node(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let mut readers = [
        follow_all(&here, "ann").await,
        follow_all(&here, "bob").await,
        follow_all(&there, "cid").await,
    ];
    let room = broadcast(&here, "news").await;
    for reader in &mut readers {
        begins(reader).await;
    }
    let seq = here.send(&room, "hello").await;
    for reader in &mut readers {
        assert_eq!(reader.event().await.seq, seq);
    }
}

async fn a_lost_hint_of_a_new_broadcast_is_found_by_the_head_check(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Silent, quick()).await;
    let mut ann = follow_all(&there, "ann").await;
    broadcast(&here, "news").await;
    begins(&mut ann).await;
}

async fn the_end_of_a_broadcast_is_told_to_everybody(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = broadcast(&here, "news").await;
    let mut named = here.subscribe("ann", latest(&["news"])).await;
    let mut all = there.subscribe("bob", all_rooms(pb::StreamStart::Latest)).await;
    for reader in [&mut named, &mut all] {
        reader.live().await;
    }
    let closed = room.close().await;
    for reader in [&mut named, &mut all] {
        assert_eq!(reader.event().await.seq, closed);
        assert_eq!(reader.closed().await, (closed, pb::ClosedReason::RoomDeleted));
    }
    refused(here.try_subscribe("cid", latest(&["news"])).await, Reason::RoomNotFound);
}

async fn a_stream_begins_at_the_head_or_with_the_whole_broadcast(db: Db) {
    let node = node(&db).await;
    let room = broadcast(&node, "news").await;
    let head = node.send(&room, "hello").await;
    for (start, position) in [(pb::StreamStart::Latest, head), (pb::StreamStart::FromJoin, 0)] {
        for (user, request) in [
            ("named", pb::SubscribeRequest { start: start.into(), ..latest(&["news"]) }),
            ("all", all_rooms(start)),
        ] {
            let mut reader = node.subscribe(&format!("{user} {position}"), request).await;
            assert_eq!(reader.attached().await.resume_from, position, "{user}");
        }
    }
    // Another tenant's user follows nothing of it.
    plan("other").of_tenant("globex").kind(RoomKind::Broadcast).make(&node).await;
    refused(node.try_subscribe("ann", latest(&["other"])).await, Reason::RoomNotFound);
}

async fn a_cursor_of_a_broadcast_is_resumed_from(db: Db) {
    let node = node(&db).await;
    let room = broadcast(&node, "news").await;
    let mut reader = node.subscribe("ann", from(&room, "", 0)).await;
    let epoch = reader.attached().await.epoch;
    drop(reader);
    let head = node.send(&room, "hello").await;
    let mut reader = node.subscribe("ann", from(&room, &epoch, 2)).await;
    assert_eq!(reader.attached().await.resume_from, 2);
    assert_eq!(reader.event().await.seq, head);
    // So does a user whose first contact it is, though they made the cursor up.
    let mut reader = node.subscribe("bob", from(&room, &epoch, 1)).await;
    assert_eq!(reader.attached().await.resume_from, 1);
}

async fn an_id_that_begins_a_new_life_is_followed_again(db: Db) {
    let node = node(&db).await;
    let mut ann = follow_all(&node, "ann").await;
    let mut last = None;
    for _ in 0..3 {
        let room = broadcast(&node, "news").await;
        begins(&mut ann).await;
        let closed = room.close().await;
        assert_eq!(ann.event().await.seq, closed);
        assert_eq!(ann.closed().await.1, pb::ClosedReason::RoomDeleted);
        last = Some(room);
    }
    let store: &Store = node.as_ref();
    let (tenant_id, user_id) = (tenant(), user("ann"));
    let logs = store.logs_of(&tenant_id, &user_id).await.expect("logs");
    assert!(last.is_some_and(|last| logs.iter().all(|(log_id, ..)| *log_id != last.log_id)));
    let other = group(&node, "after", &["ann"]).await;
    assert!(
        matches!(ann.next().await, Frame::Attached(attached) if attached.room_id == other.id.as_str())
    );
}
