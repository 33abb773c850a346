//! Who is typing, on the streams of a room.

use std::time::Duration;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;

use crate::rooms::{group, plan};
use crate::stream::harness::{Mood, Reader, again, hints_only, node, two_nodes};

test_on_each_db!(parlance_message::MIGRATIONS =>
    typing_ends_by_itself_on_every_stream_but_its_own,
    nobody_is_told_who_types_in_a_channel,
    typing_crosses_nodes_and_ends_though_its_node_is_gone,
    a_new_stream_is_told_who_is_typing,
    a_user_who_loses_access_stops_typing_at_once,
    what_was_said_before_a_removal_is_not_told_after_it,
    a_start_that_is_told_again_does_not_undo_the_stop_after_it,
    a_user_who_stops_while_a_room_is_looked_at_again_is_not_typing_for_ever,
);

async fn told(reader: &mut Reader) -> (String, bool) {
    let Frame::Notice(notice) = reader.next().await else { panic!("a notice") };
    let Some(pb::notice::Notice::Typing(typing)) = notice.notice else { panic!("{notice:?}") };
    (typing.user_id, typing.typing)
}

/// B-128, B-129.
async fn typing_ends_by_itself_on_every_stream_but_its_own(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (node.follow("ann").await, node.follow("bob").await);
    node.typing(&room, "bob", Duration::from_millis(200)).await;
    assert_eq!(told(&mut ann).await, ("bob".to_owned(), true));
    assert_eq!(told(&mut ann).await, ("bob".to_owned(), false));
    // What waits for a stream comes behind one event, or before it.
    for _ in 0..2 {
        let seq = node.send(&room, "done").await;
        assert_eq!(bob.event().await.seq, seq, "his own stream told nothing");
    }
}

async fn nobody_is_told_who_types_in_a_channel(db: Db) {
    let node = node(&db).await;
    let room = plan("r").kind(pb::RoomKind::Channel).members(&["ann", "bob"]).make(&node).await;
    let mut ann = node.follow("ann").await;
    node.typing(&room, "bob", Duration::from_mins(5)).await;
    for _ in 0..2 {
        let seq = node.send(&room, "next").await;
        assert_eq!(ann.event().await.seq, seq);
    }
}

async fn typing_crosses_nodes_and_ends_though_its_node_is_gone(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob"]).await;
    let mut ann = there.follow("ann").await;
    bus.set(Mood::Silent);
    here.typing(&room, "bob", Duration::from_millis(900)).await;
    bus.swallowed(1).await;
    bus.set(Mood::Reliable);
    // What was lost is told again after the disturbance, as long as it holds.
    bus.disturb();
    assert_eq!(told(&mut ann).await, ("bob".to_owned(), true));
    here.service.close().await;
    assert_eq!(told(&mut ann).await, ("bob".to_owned(), false));
}

async fn a_user_who_stops_while_a_room_is_looked_at_again_is_not_typing_for_ever(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    let mut ann = node.follow("ann").await;
    node.typing(&room, "bob", Duration::from_mins(5)).await;
    assert_eq!(told(&mut ann).await, ("bob".to_owned(), true));
    node.store.bump_epoch("a test").await.expect("a new epoch");
    let seq = node.send(&room, "in the new epoch").await;
    assert_eq!(told(&mut ann).await, ("bob".to_owned(), false));
    assert_eq!(ann.attached().await.resume_from, seq - 1);
    assert_eq!(ann.event().await.seq, seq);
    ann.caught_up().await;
    node.typing(&room, "bob", Duration::from_mins(5)).await;
    assert_eq!(told(&mut ann).await, ("bob".to_owned(), true));
}

const LONG: Duration = Duration::from_mins(5);

fn is(user: &str, typing: bool) -> (String, bool) {
    (user.to_owned(), typing)
}

/// B-128.
async fn a_new_stream_is_told_who_is_typing(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    // Somebody must follow, so that the node knows.
    let mut ann = node.follow("ann").await;
    node.typing(&room, "bob", LONG).await;
    assert_eq!(told(&mut ann).await, is("bob", true));
    let mut again = node.follow("ann").await;
    assert_eq!(told(&mut again).await, is("bob", true));
    let mut bob = node.follow("bob").await;
    bob.marks("r").await;
    node.typing(&room, "bob", Duration::ZERO).await;
    for reader in [&mut ann, &mut again] {
        assert_eq!(told(reader).await, is("bob", false));
    }
    let mut late = node.follow("ann").await;
    late.marks("r").await;
    let seq = node.send(&room, "nobody types").await;
    for reader in [&mut bob, &mut late] {
        assert_eq!(reader.event().await.seq, seq);
    }
}

/// B-073, B-129.
async fn a_user_who_loses_access_stops_typing_at_once(db: Db) {
    let (_bus, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob", "cid"]).await;
    let (mut ann, mut far) = (here.follow("ann").await, there.follow("ann").await);
    for user in ["bob", "cid"] {
        here.typing(&room, user, LONG).await;
        for reader in [&mut ann, &mut far] {
            assert_eq!(told(reader).await, is(user, true));
        }
    }
    let removed = room.leave("bob").await;
    for reader in [&mut ann, &mut far] {
        assert_eq!(reader.event().await.seq, removed);
        assert_eq!(told(reader).await, is("bob", false));
    }
    let mut late = there.follow("ann").await;
    assert_eq!(told(&mut late).await, is("cid", true), "and nobody else");
    room.close().await;
    for reader in [&mut ann, &mut far, &mut late] {
        assert!(matches!(reader.next().await, Frame::Event(_)));
        assert_eq!(reader.closed().await.1, pb::ClosedReason::RoomDeleted);
        assert_eq!(reader.rest().await, []);
    }
}

async fn what_was_said_before_a_removal_is_not_told_after_it(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Silent, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob"]).await;
    let mut ann = there.follow("ann").await;
    bus.swallowed(1).await;
    here.typing(&room, "bob", LONG).await;
    bus.swallowed(2).await;
    bus.set(Mood::Reliable);
    let removed = room.on(&there).leave("bob").await;
    assert_eq!(ann.event().await.seq, removed);
    again(&bus, 1).await;
    let joined = room.on(&there).join("bob").await;
    assert_eq!(ann.event().await.seq, joined, "told nothing in between");
    again(&bus, 1).await;
    there.typing(&room, "bob", LONG).await;
    assert_eq!(told(&mut ann).await, is("bob", true));
}

async fn a_start_that_is_told_again_does_not_undo_the_stop_after_it(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob", "cid"]).await;
    let (mut ann, mut far) = (here.follow("ann").await, there.follow("ann").await);
    here.typing(&room, "bob", LONG).await;
    for reader in [&mut ann, &mut far] {
        assert_eq!(told(reader).await, is("bob", true));
    }
    there.typing(&room, "bob", Duration::ZERO).await;
    for reader in [&mut ann, &mut far] {
        assert_eq!(told(reader).await, is("bob", false));
    }
    again(&bus, 2).await;
    for node in [&here, &there] {
        node.typing(&room, "cid", LONG).await;
        for reader in [&mut ann, &mut far] {
            assert_eq!(told(reader).await, is("cid", true), "bob has stopped");
        }
        node.typing(&room, "cid", Duration::ZERO).await;
        for reader in [&mut ann, &mut far] {
            assert_eq!(told(reader).await, is("cid", false));
        }
    }
}
