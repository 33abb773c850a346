//! What a stream delivers when things go wrong.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_bus::State;
use parlance_db::{Db, test_on_each_db};
use parlance_follow::Options;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::Reason;
use parlance_rpc::testing::{eventually, refused};
use parlance_types::Seq;
use tonic::Response;

use crate::rooms::{Room, group};
use crate::stream::harness::{
    Mood, Node, Reader, all_rooms, from, hints_only, latest, node, node_with, quick, receipt, seqs,
    text, two_nodes,
};

test_on_each_db!(parlance_message::MIGRATIONS =>
    hints_that_are_lost_repeated_and_reordered_cost_only_time,
    a_lost_hint_does_not_hide_a_new_room,
    a_stream_that_is_not_read_is_ended_and_costs_others_nothing,
    a_slow_stream_falls_out_of_the_ring_and_misses_nothing,
    a_node_without_memory_for_rings_serves_from_blocks,
    cursors_that_do_not_hold_are_reset,
    a_made_up_cursor_resets_the_stream_that_brings_it_and_no_other,
    an_open_stream_is_told_of_a_new_epoch,
    a_stream_that_meets_a_ring_of_an_old_epoch_is_attached_once,
    a_log_that_lost_its_end_resets_open_streams,
    a_disturbed_bus_makes_heads_be_checked_at_once,
    heads_are_polled_while_the_bus_is_away,
    a_room_that_is_on_its_way_is_gone_on_with_from_its_join,
    what_another_node_deleted_is_not_replayed_though_its_hint_is_lost,
    a_removal_on_another_node_is_obeyed_at_its_place,
    receipts_cross_nodes_and_are_told_again_after_a_disturbance,
    disturbances_cost_a_payload_and_not_one_per_notice,
    an_outage_is_unavailable_and_never_an_answer,
);

async fn hints_that_are_lost_repeated_and_reordered_cost_only_time(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Confused, quick()).await;
    let room = group(&here, "r", &["ann"]).await;
    let mut readers = [here.follow("ann").await, there.follow("ann").await];
    // Both nodes write; the last hints are lost.
    let write = async |node: &Node| {
        for _ in 0..100 {
            node.send(&room, "x").await;
        }
    };
    tokio::join!(write(&here), write(&there));
    bus.set(Mood::Silent);
    let last = here.send(&room, "last").await;
    for reader in &mut readers {
        assert_eq!(seqs(&reader.events_until(last).await), (3..=last).collect::<Vec<_>>());
    }
    let counters = there.hub.counters();
    assert!(counters.gaps.load(Ordering::Relaxed) > 0);
    assert!(counters.head_check_healed.load(Ordering::Relaxed) > 0);
}

async fn a_lost_hint_does_not_hide_a_new_room(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Silent, quick()).await;
    group(&here, "known", &["ann"]).await;
    let mut reader = there.subscribe("ann", all_rooms(pb::StreamStart::Latest)).await;
    assert_eq!(reader.attached().await.room_id, "known");
    reader.caught_up().await;
    group(&here, "first", &["ann"]).await;
    assert_eq!(reader.attached().await.room_id, "first");
    assert_eq!(reader.event().await.seq, 2);
    reader.caught_up().await;
    group(&here, "second", &["ann"]).await;
    assert_eq!(reader.attached().await.room_id, "second");
    assert!(there.hub.counters().users_healed.load(Ordering::Relaxed) > 0);
}

async fn a_stream_that_is_not_read_is_ended_and_costs_others_nothing(db: Db) {
    let mut options = hints_only();
    options.stall = Duration::from_millis(300);
    options.head_check = Duration::from_millis(20);
    options.ring.events = 16;
    let node = node_with(&db, options).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    let mut stalled = node.subscribe("ann", latest(&["r"])).await;
    let mut other = node.follow("bob").await;
    // More than the ring holds.
    for _ in 0..400 {
        let seq = node.send(&room, "x").await;
        assert_eq!(other.event().await.seq, seq);
    }
    let counters = node.hub.counters();
    eventually(|| async { counters.stalled.load(Ordering::Relaxed) == 1 }).await;

    // Its reader finds what comes next, then where to go on; and goes on there.
    let frames = stalled.rest().await;
    let Some((Frame::GoAway(go_away), frames)) = frames.split_last() else { panic!("go away") };
    let events = frames.iter().filter_map(|frame| match frame {
        Frame::Event(event) => event.event.as_ref().map(|event| event.seq),
        _ => None,
    });
    let got: Vec<_> = events.collect();
    let cursor = go_away.cursors[0].cursor.clone().expect("a cursor");
    assert_eq!(got, (3..=cursor.seq).collect::<Vec<_>>());
    let mut resumed = node.subscribe("ann", from(&room, &cursor.epoch, cursor.seq)).await;
    let rest = seqs(&resumed.events_until(402).await);
    assert_eq!(rest, (cursor.seq + 1..=402).collect::<Vec<_>>());
}

async fn a_slow_stream_falls_out_of_the_ring_and_misses_nothing(db: Db) {
    let mut options = hints_only();
    options.ring.events = 16;
    let node = node_with(&db, options).await;
    let room = group(&node, "r", &["ann"]).await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        slow.push(node.subscribe("ann", latest(&["r"])).await);
    }
    for _ in 0..600 {
        node.send(&room, "x").await;
    }
    for reader in &mut slow {
        assert_eq!(seqs(&reader.events_until(602).await), (3..=602).collect::<Vec<_>>());
    }
    // Each complete block was read once for all of them.
    let blocks = node.hub.counters().blocks_read.load(Ordering::Relaxed);
    assert!((1..20).contains(&blocks), "{blocks}");
}

async fn a_node_without_memory_for_rings_serves_from_blocks(db: Db) {
    let options = Options { ring_budget: 0, ..hints_only() };
    let node = node_with(&db, options).await;
    let room = group(&node, "r", &["ann"]).await;
    let mut reader = node.subscribe("ann", latest(&["r"])).await;
    let large = "x".repeat(4000);
    for _ in 0..100 {
        node.send(&room, &large).await;
    }
    assert_eq!(seqs(&reader.events_until(102).await), (3..=102).collect::<Vec<_>>());
    // The ring by itself would hold them all.
    assert!(node.hub.counters().blocks_read.load(Ordering::Relaxed) > 0);
}

async fn cursors_that_do_not_hold_are_reset(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    let mut reader = node.subscribe("ann", latest(&["r"])).await;
    let old = reader.attached().await.epoch;
    let kept = node.send(&room, "kept").await;
    node.store.bump_epoch("a test").await.expect("a new epoch");
    node.send(&room, "after").await;

    // A cursor of the old epoch holds as far as the old epoch went.
    let mut reader = node.subscribe("ann", from(&room, &old, kept)).await;
    let attached = reader.attached().await;
    assert_eq!(attached.resume_from, kept);
    assert_ne!(attached.epoch, old);
    let new = attached.epoch;
    for (epoch, seq, keep_through, reason) in [
        (&old, kept + 1, kept, pb::ResetReason::Rewound),
        (&"nonsense".to_owned(), 2, 0, pb::ResetReason::UnknownEpoch),
        (&new, 1000, kept + 1, pb::ResetReason::Rewound),
    ] {
        let mut reader = node.subscribe("ann", from(&room, epoch, seq)).await;
        let Frame::Reset(reset) = reader.next().await else { panic!("a reset") };
        assert_eq!((reset.keep_through, reset.reason()), (keep_through, reason));
        assert_eq!(reset.resume_from, keep_through);
        let attached = reader.attached().await;
        assert_eq!(attached.resume_from, keep_through);
        assert_eq!(reset.epoch, attached.epoch);
        let events = reader.events_until(keep_through + 1);
        if keep_through <= kept {
            assert_eq!(events.await[0].seq, keep_through + 1);
        }
    }
}

/// Whoever makes up a cursor resets their own stream, and no other.
async fn a_made_up_cursor_resets_the_stream_that_brings_it_and_no_other(db: Db) {
    let node = node_with(&db, quick()).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    let mut bob = node.subscribe("bob", latest(&["r"])).await;
    let epoch = bob.live().await.epoch;
    let first = node.store.epoch().await.expect("an epoch");
    for seq in [1000, i64::MAX] {
        let mut ann = node.subscribe("ann", from(&room, &epoch, seq)).await;
        let Frame::Reset(reset) = ann.next().await else { panic!("a reset") };
        assert_eq!((reset.reason(), &reset.epoch), (pb::ResetReason::Rewound, &epoch));
        assert_eq!(ann.attached().await.resume_from, reset.keep_through);
    }
    assert_eq!(node.store.epoch().await.expect("an epoch"), first);
    let seq = node.send(&room, "as ever").await;
    assert_eq!(bob.event().await.seq, seq);
}

async fn an_open_stream_is_told_of_a_new_epoch(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    let mut reader = node.subscribe("ann", latest(&["r"])).await;
    let old = reader.live().await.epoch;
    node.store.bump_epoch("a test").await.expect("a new epoch");
    let seq = node.send(&room, "in the new epoch").await;
    // Nothing was lost, so nothing is reset; but cursors are of the new epoch now.
    let attached = reader.attached().await;
    assert_eq!(attached.resume_from, seq - 1);
    assert_ne!(attached.epoch, old);
    assert_eq!(reader.event().await.seq, seq);
    assert_eq!(reader.caught_up().await, seq);
    let mut resumed = node.subscribe("ann", from(&room, &attached.epoch, seq)).await;
    assert_eq!(resumed.attached().await.resume_from, seq);
}

async fn a_stream_that_meets_a_ring_of_an_old_epoch_is_attached_once(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Silent, hints_only()).await;
    let room = group(&here, "r", &["ann"]).await;
    let mut open = there.follow("ann").await;
    here.store.bump_epoch("a test").await.expect("a new epoch");
    let seq = here.send(&room, "unheard").await;
    let mut reader = there.subscribe("ann", from(&room, "", 0)).await;
    assert_eq!(reader.attached().await.head, seq);
    for expected in 1..=seq {
        assert_eq!(reader.event().await.seq, expected);
    }
    assert_eq!(reader.caught_up().await, seq);
    // The one that was open learns of the epoch by it.
    assert_eq!(open.attached().await.resume_from, seq - 1);
    assert_eq!(open.event().await.seq, seq);
}

async fn a_log_that_lost_its_end_resets_open_streams(db: Db) {
    let node = node_with(&db, quick()).await;
    let room = group(&node, "r", &["ann"]).await;
    let mut reader = node.follow("ann").await;
    let kept = node.send(&room, "kept").await;
    let lost = node.send(&room, "lost").await;
    assert_eq!(reader.events_until(lost).await.len(), 2);
    rewind(&db, &room, lost).await;
    assert_eq!(told_of_a_rewind(&mut reader).await, kept);
    assert!(node.hub.counters().rings_dropped.load(Ordering::Relaxed) > 0);

    // Again, right after: what is written over the lost end is of another epoch.
    let first = node.store.epoch().await.expect("an epoch");
    let lost = node.send(&room, "lost, too").await;
    assert_eq!(reader.events_until(lost).await.len(), 1);
    rewind(&db, &room, lost).await;
    assert_eq!(told_of_a_rewind(&mut reader).await, kept);
    assert_ne!(node.store.epoch().await.expect("an epoch"), first);
    let seq = node.send(&room, "stays").await;
    assert_eq!(text(&reader.event().await), Some("stays"));
    assert_eq!(seq, lost);
}

/// As a backup that was restored under the running service.
async fn rewind(db: &Db, room: &Room, lost: Seq) {
    for statement in [
        "DELETE FROM events WHERE log_id = $1 AND seq = $2",
        "UPDATE heads SET head = $2 - 1 WHERE log_id = $1",
    ] {
        db.write(statement).bind(room.log_id.0).bind(lost).execute().await.expect("rewind");
    }
}

/// Reads what tells of a rewind; what the client may keep.
async fn told_of_a_rewind(reader: &mut Reader) -> Seq {
    let Frame::Reset(reset) = reader.next().await else { panic!("a reset") };
    assert_eq!(reset.reason(), pb::ResetReason::Rewound);
    assert_eq!(reader.attached().await.resume_from, reset.keep_through);
    assert_eq!(reader.caught_up().await, reset.keep_through);
    reset.keep_through
}

async fn a_disturbed_bus_makes_heads_be_checked_at_once(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Silent, hints_only()).await;
    let room = group(&here, "r", &["ann"]).await;
    let mut reader = there.follow("ann").await;
    let seq = here.send(&room, "unheard").await;
    bus.disturb();
    assert_eq!(reader.event().await.seq, seq);
    assert!(there.hub.counters().disturbed.load(Ordering::Relaxed) > 0);
}

async fn heads_are_polled_while_the_bus_is_away(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Silent, hints_only()).await;
    let room = group(&here, "r", &["ann"]).await;
    let mut reader = there.follow("ann").await;
    // Nobody is disturbed; that the bus is away is enough.
    bus.turn(State::Down);
    for _ in 0..3 {
        let seq = here.send(&room, "unheard").await;
        assert_eq!(reader.event().await.seq, seq);
    }
    // It counts what it has given out.
    let polled = || there.hub.counters().polled.load(Ordering::Relaxed);
    eventually(|| async { polled() >= 3 }).await;
    // When it is back, hints must do again.
    bus.set(Mood::Reliable);
    bus.turn(State::Up);
    let seq = here.send(&room, "heard").await;
    assert_eq!(reader.event().await.seq, seq);
}

async fn a_room_that_is_on_its_way_is_gone_on_with_from_its_join(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Silent, hints_only()).await;
    group(&here, "known", &["ann"]).await;
    let mut reader = there.subscribe("ann", all_rooms(pb::StreamStart::Latest)).await;
    reader.live().await;
    let room = group(&here, "on its way", &["ann"]).await;
    let update = db.write("UPDATE heads SET kind = 99 WHERE log_id = $1");
    update.bind(room.log_id.0).execute().await.expect("a room that no one can attach");
    group(&here, "later", &["ann"]).await;
    bus.disturb();
    assert_eq!(reader.attached().await.room_id, "later");
    there.draining.cancel();
    let frames = reader.rest().await;
    let Some(Frame::GoAway(go_away)) = frames.last() else { panic!("go away") };
    let stands = go_away.cursors.iter().find(|stands| stands.room_id == "on its way");
    let cursor = stands.and_then(|stands| stands.cursor.clone()).expect("a cursor");
    assert_eq!((cursor.seq, cursor.epoch.ends_with(&room.log_id.to_string())), (1, true));
}

async fn what_another_node_deleted_is_not_replayed_though_its_hint_is_lost(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann"]).await;
    let old = here.send(&room, "secret").await;
    for _ in 0..100 {
        here.send(&room, "filler").await;
    }
    // The other node has the one in a block and the other in its ring.
    let mut open = there.subscribe("ann", from(&room, "", 0)).await;
    open.events_until(103).await;
    let recent = here.send(&room, "secret").await;
    open.events_until(recent).await;

    bus.set(Mood::Silent);
    for seq in [old, recent] {
        let deleted = here.delete(&room, seq).await;
        let mut reader = there.subscribe("ann", from(&room, "", 0)).await;
        let events = reader.events_until(deleted).await;
        assert_eq!(seqs(&events), (1..=deleted).collect::<Vec<_>>());
        let at = usize::try_from(seq).expect("a seq") - 1;
        assert_eq!(text(&events[at]), None);
    }
}

/// B-073.
async fn a_removal_on_another_node_is_obeyed_at_its_place(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Silent, hints_only()).await;
    let room = group(&here, "r", &["ann"]).await;
    let mut reader = there.follow("ann").await;
    let removed = room.leave("ann").await;
    here.send(&room, "not for ann").await;
    room.join("ann").await;
    bus.disturb();
    assert_eq!(reader.event().await.seq, removed);
    assert_eq!(reader.closed().await, (removed, pb::ClosedReason::Removed));
    assert_eq!(reader.read().await.expect("OK"), None);
}

async fn receipts_cross_nodes_and_are_told_again_after_a_disturbance(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Silent, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob"]).await;
    let mut reader = there.follow("ann").await;
    here.hub.tell(room.log_id, receipt(&room, "bob", 3, 4));
    // Neither the room's facts nor the receipt are heard; the bus notices.
    bus.swallowed(2).await;
    bus.set(Mood::Reliable);
    bus.disturb();
    assert_eq!(reader.receipt().await, ("bob".to_owned(), 3, 4));
}

async fn disturbances_cost_a_payload_and_not_one_per_notice(db: Db) {
    const RECEIPTS: usize = 500;
    let (bus, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann"]).await;
    let mut reader = there.follow("ann").await;
    let before = bus.published();
    for user in 0..RECEIPTS {
        here.hub.tell(room.log_id, receipt(&room, &user.to_string(), 1, 2));
    }
    for _ in 0..RECEIPTS {
        assert!(matches!(reader.next().await, Frame::Notice(_)));
    }
    for _ in 0..10 {
        bus.disturb();
    }
    // All of them are told again to the other nodes, once for all disturbances, and to no
    // stream that knows them.
    let disturbed = || here.hub.counters().disturbed.load(Ordering::Relaxed);
    eventually(|| async { disturbed() == 10 }).await;
    let seq = here.send(&room, "not behind them").await;
    assert_eq!(reader.event().await.seq, seq);
    let payloads = bus.published() - before;
    assert!(payloads < 20, "{payloads}");
}

async fn an_outage_is_unavailable_and_never_an_answer(db: Db) {
    let node = node_with(&db, quick()).await;
    let room = group(&node, "r", &["ann"]).await;
    let mut open = node.follow("ann").await;
    db.close().await;
    for request in [latest(&["r"]), latest(&["none"]), from(&room, "", 0)] {
        refused(node.try_subscribe("ann", request).await, Reason::StoreUnavailable);
    }
    // Streams of all rooms open before the list of rooms is known.
    let mut all = node.subscribe("ann", all_rooms(pb::StreamStart::Latest)).await;
    refused(all.read().await.map(Response::new), Reason::StoreUnavailable);
    // One that is open stays, and tells where it stands when it is sent away.
    node.draining.cancel();
    let Frame::GoAway(go_away) = open.next().await else { panic!("go away") };
    assert_eq!(go_away.cursors[0].cursor.as_ref().map(|cursor| cursor.seq), Some(2));
}
