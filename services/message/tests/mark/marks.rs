//! What members have read and received.

use parlance_db::{Db, test_on_each_db};
use parlance_message::mark::{Mark, Marks};
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;
use parlance_types::LogId;
use uuid::Uuid;

use crate::rooms::{closed, gained, lost, plan};
use crate::world::{World, draft, refused, tenant, user};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_mark_only_rises,
    what_is_read_was_delivered,
    a_mark_beyond_the_head_is_refused,
    all_read_says_where,
    the_unread_flag_is_cleared_by_the_next_mark_or_message,
    answering_is_reading,
    a_newcomer_starts_at_zero,
    marks_are_for_members_of_open_rooms,
    uncounted_messages_do_not_count,
);

fn marks(read: i64, delivered: i64, moved: bool) -> Marks {
    Marks { read, delivered, moved }
}

async fn a_mark_only_rises(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    for _ in 0..4 {
        world.say(log_id, "ann", "x").await;
    }
    for (seq, expected, unread) in [
        (4, marks(4, 4, true), 2),
        (3, marks(4, 4, false), 2),
        (4, marks(4, 4, false), 2),
        (0, marks(4, 4, false), 2),
        (6, marks(6, 6, true), 0),
    ] {
        assert_eq!(world.mark(log_id, "bob", Mark::Read(seq)).await.expect("marks"), expected);
        assert_eq!(world.unread("bob", log_id).await, Some(unread));
    }
}

async fn what_is_read_was_delivered(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    for _ in 0..4 {
        world.say(log_id, "ann", "x").await;
    }
    for (mark, expected) in [
        (Mark::Delivered(5), marks(2, 5, true)),
        (Mark::Delivered(4), marks(2, 5, false)),
        (Mark::Read(4), marks(4, 5, true)),
        (Mark::Read(6), marks(6, 6, true)),
    ] {
        assert_eq!(world.mark(log_id, "bob", mark).await.expect("marks"), expected);
    }
}

async fn a_mark_beyond_the_head_is_refused(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let rule = "seq must not be beyond the head, which is 2";
    for mark in [Mark::Read(3), Mark::Delivered(i64::MAX)] {
        let beyond = world.mark(log_id, "ann", mark).await;
        assert_eq!(beyond.expect_err("refused").to_string(), rule);
    }
}

/// B-121.
async fn all_read_says_where(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    world.say(log_id, "ann", "x").await;
    let all = marks(3, 3, true);
    assert_eq!(world.mark(log_id, "bob", Mark::AllRead).await.expect("marks"), all);
    let again = Marks { moved: false, ..all };
    assert_eq!(world.mark(log_id, "bob", Mark::AllRead).await.expect("marks"), again);
    assert_eq!(world.unread("bob", log_id).await, Some(0));
}

async fn the_unread_flag_is_cleared_by_the_next_mark_or_message(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let flagged = async || {
        let unread = world.unreads(&tenant(), &user("ann")).await.remove(0);
        assert_eq!(unread.unread, 0, "the flag lowers no mark");
        unread.marked_unread
    };
    let flag = async || world.flag_unread(log_id, "ann").await.expect("flagged");
    flag().await;
    assert!(flagged().await);
    let marks = world.mark(log_id, "ann", Mark::Read(1)).await.expect("marks");
    assert_eq!((marks.read, flagged().await), (2, false));
    flag().await;
    world.mark(log_id, "ann", Mark::AllRead).await.expect("marks");
    assert!(!flagged().await);
    flag().await;
    world.say(log_id, "ann", "x").await;
    assert!(!flagged().await);
    flag().await;
    world.fact(log_id, 2, lost("ann")).await.expect("a fact");
    world.fact(log_id, 3, gained("ann")).await.expect("a fact");
    assert!(!flagged().await);
}

async fn answering_is_reading(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    for _ in 0..3 {
        world.say(log_id, "ann", "x").await;
    }
    assert_eq!(world.unread("bob", log_id).await, Some(3));
    world.say(log_id, "bob", "y").await;
    assert_eq!(world.unread("bob", log_id).await, Some(0));
    assert_eq!(world.unread("ann", log_id).await, Some(1));
    let got = world.mark(log_id, "bob", Mark::Read(1)).await.expect("marks");
    assert_eq!(got, marks(6, 6, false));
}

async fn a_newcomer_starts_at_zero(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    world.say(log_id, "ann", "x").await;
    world.fact(log_id, 2, gained("bob")).await.expect("a fact");
    assert_eq!(world.unread("bob", log_id).await, Some(0));
    world.say(log_id, "ann", "x").await;
    assert_eq!(world.unread("bob", log_id).await, Some(1));
    world.fact(log_id, 3, lost("bob")).await.expect("a fact");
    assert_eq!(world.unread("bob", log_id).await, None);
    world.say(log_id, "ann", "x").await;
    world.fact(log_id, 4, gained("bob")).await.expect("a fact");
    assert_eq!(world.unread("bob", log_id).await, Some(0));
}

async fn marks_are_for_members_of_open_rooms(db: Db) {
    let world = World::open(db).await;
    let group = world.group("g", &["ann", "bob"]).await;
    let direct = plan("d").kind(RoomKind::Direct).owned(&["ann", "bob"]);
    let direct = direct.make(&world).await.log_id;
    for mark in [Mark::Read(1), Mark::Read(99), Mark::Delivered(1), Mark::AllRead] {
        refused(world.mark(group, "eve", mark).await, Reason::NotAMember);
    }
    refused(world.flag_unread(group, "eve").await, Reason::NotAMember);
    world.fact(group, 2, closed()).await.expect("a fact");
    for (log_id, user_id, mark) in [
        (direct, "eve", Mark::Read(1)),
        (group, "ann", Mark::Read(1)),
        (group, "ann", Mark::AllRead),
        (LogId(Uuid::now_v7()), "ann", Mark::Read(1)),
    ] {
        refused(world.mark(log_id, user_id, mark).await, Reason::RoomNotFound);
    }
    refused(world.flag_unread(group, "ann").await, Reason::RoomNotFound);
}

/// B-127.
async fn uncounted_messages_do_not_count(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let mut quiet = draft(log_id, "ann", None, "x");
    quiet.uncounted = true;
    let quiet = world.append(quiet).await.expect("sent").message_id;
    assert!(world.message(quiet).await.expect("a message").uncounted);
    let loud = world.say(log_id, "ann", "x").await.message_id;
    assert_eq!(world.unread("bob", log_id).await, Some(1));
    world.delete(quiet, "ann").await.expect("deleted");
    assert_eq!(world.unread("bob", log_id).await, Some(1));
    world.delete(loud, "ann").await.expect("deleted");
    assert_eq!(world.unread("bob", log_id).await, Some(0));
}
