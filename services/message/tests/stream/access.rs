//! Who gets what.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::testing::refused;
use parlance_rpc::{Principal, Reason};

use crate::rooms::{group, plan};
use crate::stream::harness::{Reader, from, latest, node, seqs, text};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_call_fails_only_when_every_room_is_refused,
    a_service_that_acts_for_nobody_follows_rooms_it_is_not_in,
    nothing_after_a_removal_reaches_the_removed_user,
    a_member_who_is_added_again_follows_again,
    history_since_the_join_hides_what_was_before,
    deleted_content_is_never_replayed,
    a_deleted_room_ends_with_its_closing_event,
    a_cursor_of_an_earlier_life_is_reset,
);

/// B-133.
async fn a_call_fails_only_when_every_room_is_refused(db: Db) {
    let node = node(&db).await;
    group(&node, "mine", &["ann"]).await;
    group(&node, "theirs", &["bob"]).await;
    plan("direct").kind(pb::RoomKind::Direct).members(&["bob", "eve"]).make(&node).await;

    let mut reader = node.subscribe("ann", latest(&["theirs", "none", "mine", "direct"])).await;
    let mut closed = Vec::new();
    while closed.len() < 3 {
        if let Frame::Closed(frame) = reader.next().await {
            closed.push((frame.room_id.clone(), frame.seq, frame.reason()));
        }
    }
    closed.sort();
    let expected = [
        ("direct".to_owned(), 0, pb::ClosedReason::RoomNotFound),
        ("none".to_owned(), 0, pb::ClosedReason::RoomNotFound),
        ("theirs".to_owned(), 0, pb::ClosedReason::NotAMember),
    ];
    assert_eq!(closed, expected);

    for (rooms, reason) in [
        (["theirs", "none"], Reason::NotAMember),
        (["none", "theirs"], Reason::RoomNotFound),
        (["direct", "theirs"], Reason::RoomNotFound),
    ] {
        refused(node.try_subscribe("ann", latest(&rooms)).await, reason);
    }
}

async fn a_service_that_acts_for_nobody_follows_rooms_it_is_not_in(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    let request =
        pb::SubscribeRequest { start: pb::StreamStart::FromJoin.into(), ..latest(&["r"]) };
    let stream = node.client(Principal::Service).subscribe(request).await.expect("a stream");
    let mut reader = Reader::new(stream.into_inner());
    assert_eq!(reader.attached().await.resume_from, 0);
    let removed = room.leave("ann").await;
    assert_eq!(seqs(&reader.events_until(removed).await), [1, 2, 3]);
}

/// B-073.
async fn nothing_after_a_removal_reaches_the_removed_user(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    let mut anns = Vec::new();
    let mut epoch = String::new();
    for n in 0..8 {
        let mut reader = node.subscribe("ann", from(&room, &epoch, n % 2 * n.min(2))).await;
        epoch = reader.attached().await.epoch;
        anns.push(reader);
    }
    let mut bob = node.subscribe("bob", from(&room, "", 0)).await;
    // Some of Ann's streams read at once, some only when all is over.
    let slow = anns.split_off(4);
    let read = |mut reader: Reader| tokio::spawn(async move { reader.rest().await });
    let fast: Vec<_> = anns.into_iter().map(read).collect();

    let sends = async {
        for _ in 0..150 {
            node.send(&room, "fire").await;
        }
    };
    let removal = async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        room.leave("ann").await
    };
    let ((), removed) = tokio::join!(sends, removal);

    let slow: Vec<_> = slow.into_iter().map(read).collect();
    for frames in fast.into_iter().chain(slow) {
        let mut frames = frames.await.expect("a reader");
        let Some(Frame::Closed(closed)) = frames.pop() else { panic!("closed is the last") };
        assert_eq!((closed.seq, closed.reason()), (removed, pb::ClosedReason::Removed));
        for frame in frames {
            match frame {
                Frame::Event(event) => assert!(event.event.expect("an event").seq <= removed),
                Frame::CaughtUp(_) => {}
                other => panic!("an event, not {other:?}"),
            }
        }
    }
    assert_eq!(seqs(&bob.events_until(153).await), (1..=153).collect::<Vec<_>>());
    refused(node.try_subscribe("ann", from(&room, "", 0)).await, Reason::NotAMember);
}

/// B-067.
async fn a_member_who_is_added_again_follows_again(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    let removed = room.leave("ann").await;
    node.send(&room, "while away").await;
    let again = room.join("ann").await;
    // The whole history, own old removal included, and it goes on after it.
    let mut reader = node.subscribe("ann", from(&room, "", 0)).await;
    reader.attached().await;
    assert_eq!(seqs(&reader.events_until(again).await), [1, 2, removed, 4, again]);
    assert_eq!(reader.caught_up().await, again);
    let removed = room.leave("ann").await;
    assert_eq!(reader.event().await.seq, removed);
    assert_eq!(reader.closed().await, (removed, pb::ClosedReason::Removed));
    assert_eq!(reader.read().await.expect("OK"), None);
}

async fn history_since_the_join_hides_what_was_before(db: Db) {
    let node = node(&db).await;
    let room = plan("r").since_join().members(&["bob"]).make(&node).await;
    for _ in 0..100 {
        node.send(&room, "before").await;
    }
    let joined = room.join("ann").await;
    node.send(&room, "after").await;
    let mut reader = node.subscribe("ann", from(&room, "", 0)).await;
    assert_eq!(reader.attached().await.resume_from, 0);
    let Frame::Skipped(skipped) = reader.next().await else { panic!("skipped") };
    assert_eq!((skipped.from_seq, skipped.to_seq), (1, joined - 1));
    assert_eq!(reader.event().await.seq, joined);
    assert_eq!(text(&reader.event().await), Some("after"));
    assert_eq!(reader.caught_up().await, joined + 1);
    // Bob was there from the beginning, but for the creation of the room.
    let mut reader = node.subscribe("bob", from(&room, "", 0)).await;
    reader.attached().await;
    let Frame::Skipped(skipped) = reader.next().await else { panic!("skipped") };
    assert_eq!((skipped.from_seq, skipped.to_seq), (1, 1));
}

async fn deleted_content_is_never_replayed(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    let secret = node.send(&room, "secret").await;
    for _ in 0..130 {
        node.send(&room, "filler").await;
    }
    // Its content is in this node's blocks and in its ring.
    let mut before = node.subscribe("ann", from(&room, "", 0)).await;
    before.attached().await;
    let events = before.events_until(133).await;
    assert_eq!(text(&events[2]), Some("secret"));
    let late = node.send(&room, "late secret").await;

    for seq in [secret, late] {
        let deleted = node.delete(&room, seq).await;
        let mut after = node.subscribe("ann", from(&room, "", 0)).await;
        after.attached().await;
        let events = after.events_until(deleted).await;
        let at = usize::try_from(seq).expect("a seq") - 1;
        assert_eq!((events[at].seq, text(&events[at])), (seq, None));
        let Some(pb::event::Body::MessageSent(sent)) = &events[at].body else { panic!() };
        assert!(sent.deleted);
    }
}

/// B-133.
async fn a_deleted_room_ends_with_its_closing_event(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    let mut reader = node.follow("ann").await;
    let closed = room.close().await;
    assert_eq!(reader.event().await.seq, closed);
    assert_eq!(reader.closed().await, (closed, pb::ClosedReason::RoomDeleted));
    assert_eq!(reader.read().await.expect("OK"), None);
    refused(node.try_subscribe("ann", latest(&["r"])).await, Reason::RoomNotFound);
}

async fn a_cursor_of_an_earlier_life_is_reset(db: Db) {
    let node = node(&db).await;
    let first = group(&node, "r", &["ann"]).await;
    let mut reader = node.subscribe("ann", latest(&["r"])).await;
    let epoch = reader.attached().await.epoch;
    for _ in 0..10 {
        node.send(&first, "old").await;
    }
    first.close().await;
    let second = group(&node, "r", &["ann"]).await;
    // Neither taken for a place in the new log nor for a rewound history.
    let before = node.store.epoch().await.expect("an epoch");
    for seq in [1, 12] {
        let mut reader = node.subscribe("ann", from(&second, &epoch, seq)).await;
        let Frame::Reset(reset) = reader.next().await else { panic!("a reset") };
        assert_eq!((reset.keep_through, reset.resume_from), (0, 0));
        assert_eq!(reset.reason(), pb::ResetReason::UnknownEpoch);
        assert_eq!(reader.attached().await.resume_from, 0);
        assert_eq!(reader.event().await.seq, 1);
    }
    assert_eq!(node.store.epoch().await.expect("an epoch"), before);
}
