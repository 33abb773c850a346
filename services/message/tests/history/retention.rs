//! Rooms that let go of what is old.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;

use super::clear_for_all::{page, prune, rows};
use crate::harness::{World, edit, send, unread};
use crate::rooms::{Room, group};
use crate::stream::harness::{from, latest, seqs};

test_on_each_db!(parlance_message::MIGRATIONS =>
    what_is_older_than_the_room_keeps_it_goes,
    the_last_message_goes_too_and_the_room_goes_on,
    a_long_history_goes_in_chunks,
    a_room_that_keeps_everything_again_keeps_what_is_left,
    an_open_stream_that_is_behind_is_told_where_it_goes_on,
    a_clearing_of_a_room_that_lets_go_by_itself_counts_too,
);

const HOUR: i64 = 3_600_000_000;

/// From now on the room keeps events for an hour; for ever without.
async fn keep(room: &Room, hours: i64) {
    let retention = Some(prost_types::Duration { seconds: hours * 3600, nanos: 0 });
    room.set_rules(pb::LogRules { retention, ..pb::LogRules::default() }).await;
}

async fn recounted(world: &World, user: &str) -> i64 {
    let recount = world.user(user).inbox.recount_unread(pb::RecountUnreadRequest {}).await;
    let recount = recount.expect("counted").into_inner();
    assert_eq!(recount.differences, vec![]);
    assert_eq!(unread(&mut world.user(user)).await, recount.total);
    recount.total
}

async fn what_is_older_than_the_room_keeps_it_goes(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    keep(&room, 1).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    for n in 0..4 {
        send(&mut ann, "lobby", &n.to_string()).await;
        world.clock.advance(HOUR / 4);
        prune(&world).await;
    }
    assert_eq!((page(&mut bob, "lobby").await.len(), recounted(&world, "bob").await), (4, 4));
    // Just an hour old is not older. A log is looked at again after ten seconds.
    for (advance, left) in [(0, 3), (HOUR / 4, 2), (HOUR / 4, 1)] {
        world.clock.advance(advance + 10_000_000);
        prune(&world).await;
        assert_eq!(page(&mut bob, "lobby").await.len(), left);
        assert_eq!(recounted(&world, "bob").await, i64::try_from(left).expect("few"));
    }
    // In a stream, too.
    let mut stream = world.subscribe(bob, from(&room, "", 0)).await;
    stream.attached().await;
    let Frame::Skipped(skipped) = stream.next().await else { panic!("not skipped") };
    assert_eq!((skipped.from_seq, skipped.to_seq), (1, 6));
    assert_eq!(seqs(&stream.events_until(7).await), [7]);
    assert_eq!(rows(&world, "events", room.log_id).await, 1);
}

async fn the_last_message_goes_too_and_the_room_goes_on(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    keep(&room, 1).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let sent = send(&mut ann, "lobby", "hello").await;
    let mut live = world.subscribe(bob.clone(), latest(&["lobby"])).await;
    let epoch = live.live().await.epoch;
    world.clock.advance(2 * HOUR);
    prune(&world).await;
    assert_eq!(rows(&world, "events", room.log_id).await, 0);
    assert_eq!(page(&mut bob, "lobby").await, Vec::<String>::new());
    assert_eq!(recounted(&world, "bob").await, 0);
    let all = pb::MarkAllReadRequest { room_id: "lobby".to_owned() };
    let read = bob.marks.mark_all_read(all).await.expect("marked").into_inner().read_seq;
    assert_eq!(read, sent.seq);
    let mark = pb::MarkDeliveredRequest { room_id: "lobby".to_owned(), seq: sent.seq };
    bob.marks.mark_delivered(mark).await.expect("marked");
    // Who stands at the head has missed nothing.
    let mut back = world.subscribe(bob.clone(), from(&room, &epoch, sent.seq)).await;
    assert_eq!(back.live().await.resume_from, sent.seq);
    let next = send(&mut ann, "lobby", "next").await.seq;
    assert_eq!(next, sent.seq + 1);
    for stream in [&mut live, &mut back] {
        assert_eq!(stream.event().await.seq, next);
    }
    assert_eq!((page(&mut bob, "lobby").await.len(), recounted(&world, "bob").await), (1, 1));
}

async fn a_long_history_goes_in_chunks(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let ann = world.user("ann");
    for _ in 0..60 {
        let twenty = (0..20).map(|n| {
            let mut ann = ann.clone();
            async move { send(&mut ann, "lobby", &n.to_string()).await }
        });
        futures::future::join_all(twenty).await;
    }
    let deleted = format!("{}-700", room.log_id);
    crate::harness::delete(&mut ann.clone(), &deleted).await;
    let edited = format!("{}-701", room.log_id);
    edit(&mut ann.clone(), &edited, "better").await;
    world.clock.advance(2 * HOUR);
    send(&mut ann.clone(), "lobby", "young").await;
    keep(&room, 1).await;
    prune(&world).await;
    assert_eq!(rows(&world, "events", room.log_id).await, 2);
    // Of the deleted message there are only the buckets that others share with it.
    assert_eq!(rows(&world, "gone", room.log_id).await, 2);
    assert_eq!(page(&mut world.user("bob"), "lobby").await, ["young"]);
    assert_eq!(recounted(&world, "bob").await, 1);
}

async fn a_room_that_keeps_everything_again_keeps_what_is_left(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    keep(&room, 1).await;
    let mut ann = world.user("ann");
    send(&mut ann, "lobby", "old").await;
    world.clock.advance(2 * HOUR);
    prune(&world).await;
    send(&mut ann, "lobby", "kept").await;
    keep(&room, 0).await;
    world.clock.advance(20 * HOUR);
    prune(&world).await;
    assert_eq!(page(&mut world.user("bob"), "lobby").await, ["kept"]);
    assert_eq!(rows(&world, "prunings", room.log_id).await, 0);
}

/// It learns of it with the heads, whatever is in memory.
async fn an_open_stream_that_is_behind_is_told_where_it_goes_on(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let mut ann = world.user("ann");
    keep(&room, 1).await;
    for n in 0..200 {
        send(&mut ann, "lobby", &n.to_string()).await;
    }
    // Read as far as a chunk, it stands somewhere in the midst.
    let mut slow = world.subscribe(world.user("bob"), from(&room, "", 0)).await;
    slow.attached().await;
    assert_eq!(slow.event().await.seq, 1);
    world.clock.advance(2 * HOUR);
    let next = send(&mut ann, "lobby", "next").await.seq;
    prune(&world).await;
    let mut last = 1;
    while last < next {
        match slow.next().await {
            Frame::Event(event) => {
                let seq = event.event.expect("an event").seq;
                assert_eq!(seq, last + 1);
                last = seq;
            }
            Frame::Reset(reset) => {
                assert_eq!(reset.reason(), pb::ResetReason::Pruned);
                assert!(reset.resume_from >= last);
                last = reset.resume_from;
            }
            Frame::Attached(attached) => assert_eq!(attached.resume_from, last),
            Frame::CaughtUp(_) | Frame::Heartbeat(_) | Frame::Notice(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rows(&world, "events", room.log_id).await, 1);
}

async fn a_clearing_of_a_room_that_lets_go_by_itself_counts_too(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    keep(&room, 1).await;
    let mut ann = world.user("ann");
    send(&mut ann, "lobby", "old").await;
    let (seq, _) = super::clear_for_all::clear(&world.backend(), "lobby", "").await;
    prune(&world).await;
    assert_eq!(rows(&world, "events", room.log_id).await, 1);
    world.clock.advance(2 * HOUR);
    prune(&world).await;
    assert_eq!(rows(&world, "events", room.log_id).await, 0);
    assert_eq!(send(&mut ann, "lobby", "next").await.seq, seq + 1);
    assert_eq!(page(&mut world.user("bob"), "lobby").await, ["next"]);
}
