//! How far members have come, on the streams of a room.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_types::Seq;

use crate::rooms::{Room, group, plan};
use crate::stream::harness::{
    Mood, Node, again, hints_only, latest, node, node_with, quick, receipt, two_nodes,
};

test_on_each_db!(parlance_message::MIGRATIONS =>
    they_only_rise_whatever_nodes_tell_again,
    they_begin_anew_when_history_was_rewound,
    a_stream_begins_with_the_marks_of_all_members,
    a_stream_that_begins_does_not_fall_behind_what_it_knows,
    of_large_rooms_and_channels_nothing_is_told_at_the_beginning,
);

fn at(user: &str, seq: Seq) -> (String, Seq, Seq) {
    (user.to_owned(), seq, seq)
}

/// B-119.
async fn they_only_rise_whatever_nodes_tell_again(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob"]).await;
    let (mut ann, mut far) = (here.follow("ann").await, there.follow("ann").await);
    for (node, seq) in [(&here, 119), (&there, 148)] {
        node.hub.tell(room.log_id, receipt(&room, "bob", seq, seq));
        for reader in [&mut ann, &mut far] {
            assert_eq!(reader.receipt().await, at("bob", seq));
        }
    }
    again(&bus, 2).await;
    here.hub.tell(room.log_id, receipt(&room, "bob", 121, 121));
    // In the batch of the one before, or a later one.
    here.hub.tell(room.log_id, receipt(&room, "cid", 5, 5));
    for reader in [&mut ann, &mut far] {
        assert_eq!(reader.receipt().await, at("cid", 5));
    }
}

async fn they_begin_anew_when_history_was_rewound(db: Db) {
    let node = node_with(&db, quick()).await;
    let room = said(&node, 3).await;
    let mut ann = node.follow("ann").await;
    ann.marks("r").await;
    node.mark_read(&room, "bob", 5).await;
    assert_eq!(ann.receipt().await, at("bob", 5));
    let update = "UPDATE members SET read_seq = 3, delivered_seq = 3 WHERE user_id = 'bob'";
    db.write(update).execute().await.expect("put back");
    node.store.bump_epoch("a test").await.expect("a new epoch");
    loop {
        if let Frame::Attached(_) = ann.next().await {
            break;
        }
    }
    assert_eq!(ann.marks("r").await, [at("ann", 2), at("bob", 3)]);
    node.mark_read(&room, "bob", 4).await;
    assert_eq!(ann.receipt().await, at("bob", 4));
}

/// B-119.
async fn a_stream_begins_with_the_marks_of_all_members(db: Db) {
    let node = node(&db).await;
    let room = said(&node, 3).await;
    node.mark_read(&room, "bob", 4).await;
    let pair = plan("pair").kind(pb::RoomKind::Direct).members(&["ann", "bob"]);
    let pair = pair.make(&node).await;
    let mut ann = node.subscribe("ann", latest(&["r"])).await;
    assert_eq!(ann.marks("r").await, [at("ann", 2), at("bob", 4)]);
    let mut ann = node.subscribe("ann", latest(&["pair"])).await;
    assert_eq!(ann.marks("pair").await, [at("ann", 2), at("bob", 2)]);
    // What changed while nobody followed is there, too, and who left is not.
    drop(ann);
    node.send(&pair, "hello").await;
    node.mark_read(&pair, "ann", 3).await;
    pair.leave("bob").await;
    let mut ann = node.subscribe("ann", latest(&["pair"])).await;
    assert_eq!(ann.marks("pair").await, [at("ann", 3)]);
}

async fn a_stream_that_begins_does_not_fall_behind_what_it_knows(db: Db) {
    let (bus, here, there) = two_nodes(&db, Mood::Silent, hints_only()).await;
    let room = said(&here, 4).await;
    let mut before = there.follow("ann").await;
    before.marks("r").await;
    // Each is lost: the node there learns it from the database.
    here.mark_read(&room, "bob", 5).await;
    bus.swallowed(1).await;
    let mut ann = there.subscribe("ann", latest(&["r"])).await;
    assert_eq!(ann.marks("r").await[1], at("bob", 5));
    bus.set(Mood::Reliable);
    there.hub.tell(room.log_id, receipt(&room, "bob", 4, 4));
    again(&bus, 2).await;
    // The one that was there before learns it too.
    for reader in [&mut before, &mut ann] {
        assert_eq!(reader.receipt().await, at("bob", 5));
    }
}

/// B-126.
async fn of_large_rooms_and_channels_nothing_is_told_at_the_beginning(db: Db) {
    let node = node(&db).await;
    let users: Vec<_> = (0..101).map(|n| format!("user {n}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    let large = plan("large").members(&users).make(&node).await;
    let channel = plan("channel").kind(pb::RoomKind::Channel).members(&users[..2]);
    let channel = channel.make(&node).await;
    plan("r").members(&users[..100]).make(&node).await;
    for room in [large, channel] {
        let mut reader = node.subscribe(users[0], latest(&[&room.id.to_string(), "r"])).await;
        reader.all_caught_up(2).await;
        assert_eq!(reader.marks("r").await.len(), 100);
        let seq = node.send(&room, "next").await;
        assert_eq!(reader.events_until(seq).await.len(), 1);
        assert_eq!(reader.marks.len(), 0, "{room:?}");
    }
}

/// A group of Ann and Bob with so many messages.
async fn said(node: &Node, messages: usize) -> Room {
    let room = group(node, "r", &["ann", "bob"]).await;
    for _ in 0..messages {
        node.send(&room, "hello").await;
    }
    room
}
