//! A user's logs by activity.

use std::collections::BTreeSet;

use parlance_db::{Db, test_on_each_db};
use parlance_log::Role;
use parlance_message::inbox::{UserLog, Walk};
use parlance_message::message::codec;
use parlance_types::LogId;

use crate::rooms::{closed, gained, lost, plan};
use crate::world::{World, content, tenant, user};

test_on_each_db!(parlance_message::MIGRATIONS =>
    logs_come_by_latest_activity_with_what_is_unread,
    the_last_message_is_the_newest_that_may_be_seen,
    empty_logs_are_left_out_when_asked,
    a_walk_misses_no_log_that_moves_meanwhile,
    a_walk_lists_each_log_that_does_not_move_once,
    only_a_message_or_the_own_join_moves_a_log_up,
    a_closed_log_lets_its_members_go,
    logs_left_and_closed_are_not_listed,
    a_walk_that_was_made_up_is_walked_all_the_same,
);

async fn page(
    world: &World,
    walk: Option<Walk>,
    skip_empty: bool,
    limit: usize,
) -> (Vec<UserLog>, Option<Walk>) {
    let (tenant, ann) = (tenant(), user("ann"));
    let page = world.user_logs(&tenant, &ann, walk, skip_empty, limit).await;
    page.expect("a page")
}

async fn groups(world: &World, count: usize) -> Vec<LogId> {
    let mut logs = Vec::new();
    for room in 0..count {
        world.clock.advance(1_000_000);
        logs.push(world.group(&room.to_string(), &["ann", "bob"]).await);
    }
    logs
}

fn ids(logs: &[UserLog]) -> Vec<LogId> {
    logs.iter().map(|log| log.unread.log_id).collect()
}

/// Page tokens are not signed: any number may be in one.
async fn a_walk_that_was_made_up_is_walked_all_the_same(db: Db) {
    let world = World::open(db).await;
    let logs = groups(&world, 1).await;
    for time in [i64::MIN, 0, i64::MAX] {
        for ascending in [false, true] {
            for listed in [vec![], vec![0; 1000]] {
                let place = (time, 0);
                let walk = serde_json::json!({
                    "floor": place, "ascending": ascending, "at": place, "listed": listed,
                });
                let walk = serde_json::from_value(walk).expect("a walk");
                let (page, _) = page(&world, Some(walk), false, 10).await;
                assert!(ids(&page).iter().all(|log_id| *log_id == logs[0]));
            }
        }
    }
}

/// What did not move comes once, however near the rooms were written to each other.
async fn a_walk_lists_each_log_that_does_not_move_once(db: Db) {
    let world = World::open(db).await;
    let mut logs = groups(&world, 5).await;
    for log_id in &logs[2..] {
        world.clock.advance(50_000);
        world.say(*log_id, "bob", "x").await;
    }
    for size in 1..=3 {
        let (mut listed, mut walk) = page(&world, None, false, size).await;
        while let Some(at) = walk {
            let logs;
            (logs, walk) = page(&world, Some(at), false, size).await;
            listed.extend(logs);
            assert!(listed.len() <= 5, "the walk ends");
        }
        let mut listed = ids(&listed);
        listed.sort_unstable_by_key(|log_id| log_id.0);
        logs.sort_unstable_by_key(|log_id| log_id.0);
        assert_eq!(listed, logs, "pages of {size}");
    }
}

/// Nobody looks at a room again since an old message was edited, or somebody else joined.
async fn only_a_message_or_the_own_join_moves_a_log_up(db: Db) {
    let world = World::open(db).await;
    let logs = groups(&world, 2).await;
    let old = world.say(logs[0], "bob", "old").await.message_id;
    world.clock.advance(1_000_000);
    world.say(logs[1], "bob", "new").await;
    let order = async || ids(&page(&world, None, false, 10).await.0);
    assert_eq!(order().await, [logs[1], logs[0]]);
    world.clock.advance(1_000_000);
    world.edit(old, "bob", "e", "edited").await.expect("edited");
    world.fact(logs[0], 2, gained("cas")).await.expect("a fact");
    world.delete(old, "bob").await.expect("deleted");
    assert_eq!(order().await, [logs[1], logs[0]]);
    world.fact(logs[0], 3, lost("ann")).await.expect("a fact");
    world.fact(logs[0], 4, gained("ann")).await.expect("a fact");
    assert_eq!(order().await, [logs[0], logs[1]]);
}

/// The memberships of a closed log end, some at a time.
async fn a_closed_log_lets_its_members_go(db: Db) {
    let world = World::open(db).await;
    let users: Vec<String> = (0..100).map(|n| format!("user {n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let (ended, open) = (world.group("ended", &users).await, world.group("open", &users).await);
    // More than one step ends.
    let copies = "INSERT INTO members (log_id, user_id, tenant_id, role, joined_seq, joined_time,
                                       read_seq, read_ord, delivered_seq, marked_unread)
                  SELECT m.log_id, m.user_id || ' of ' || o.user_id, m.tenant_id, 1, 2, 1, 2, 0,
                         2, FALSE
                    FROM members m JOIN members o ON o.log_id = m.log_id
                   WHERE m.log_id = $1";
    world.db.write(copies).bind(ended.0).execute().await.expect("copied");
    world.fact(ended, 2, closed()).await.expect("a fact");
    world.store.empty_closed().await.expect("emptied");
    let members = async |log_id: LogId| {
        let count = "SELECT COUNT(*) FROM members WHERE log_id = $1";
        let (count,): (i64,) =
            world.db.read(count).bind(log_id.0).fetch_one().await.expect("count");
        count
    };
    assert_eq!((members(ended).await, members(open).await), (0, 100));
    let peopled = "SELECT COUNT(*) FROM heads WHERE closed_seq IS NOT NULL AND peopled";
    let peopled: (i64,) = world.db.read(peopled).fetch_one().await.expect("a count");
    assert_eq!(peopled, (0,));
}

/// B-050.
async fn logs_come_by_latest_activity_with_what_is_unread(db: Db) {
    let world = World::open(db).await;
    let logs = groups(&world, 3).await;
    world.clock.advance(1_000_000);
    world.say(logs[1], "bob", "hello").await;
    let (page, next) = page(&world, None, false, 10).await;
    assert_eq!(ids(&page), [logs[1], logs[2], logs[0]]);
    assert_eq!(next, None);
    let first = &page[0];
    assert_eq!((first.unread.room_id.as_str(), first.unread.unread), ("1", 1));
    assert_eq!((first.role, first.unread.stands.seq, first.unread.read), (Role::Owner, 3, 2));
    assert_eq!(first.activity, 5_000_000);
    let last = first.last_message.clone().expect("a message");
    assert_eq!(last.content, Some(codec::encoded(&content("hello"))));
    assert_eq!(last.sender, Some(user("bob")));
    assert_eq!(page[1].last_message, None);
}

async fn the_last_message_is_the_newest_that_may_be_seen(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let stored = |text| Some(codec::encoded(&content(text)));
    let last = async || {
        let message = page(&world, None, false, 1).await.0.remove(0).last_message;
        message.map(|message| message.content.expect("a content"))
    };
    assert_eq!(last().await, None);
    let one = world.say(log_id, "ann", "one").await.message_id;
    let two = world.say(log_id, "ann", "two").await.message_id;
    world.edit(two, "ann", "e", "two, edited").await.expect("an edit");
    assert_eq!(last().await, stored("two, edited"));
    world.delete(two, "ann").await.expect("deleted");
    assert_eq!(last().await, stored("one"));
    world.delete(one, "ann").await.expect("deleted");
    assert_eq!(last().await, None);

    let room = plan("since").since_join().owned(&["bob"]).make(&world).await.log_id;
    world.say(room, "bob", "before").await;
    world.clock.advance(1);
    world.fact(room, 2, gained("ann")).await.expect("a fact");
    assert_eq!(last().await, None);
    world.say(room, "bob", "after").await;
    assert_eq!(last().await, stored("after"));
}

async fn empty_logs_are_left_out_when_asked(db: Db) {
    let world = World::open(db).await;
    let logs = groups(&world, 4).await;
    for log_id in [logs[0], logs[2]] {
        world.clock.advance(1_000_000);
        world.say(log_id, "bob", "x").await;
    }
    assert_eq!(ids(&page(&world, None, true, 10).await.0), [logs[2], logs[0]]);
    assert_eq!(page(&world, None, false, 10).await.0.len(), 4);
}

async fn a_walk_misses_no_log_that_moves_meanwhile(db: Db) {
    let world = World::open(db).await;
    let logs = groups(&world, 9).await;
    let (first, mut walk) = page(&world, None, false, 2).await;
    assert_eq!(ids(&first), [logs[8], logs[7]]);
    let mut seen: BTreeSet<LogId> = ids(&first).into_iter().collect();
    // Each step moves a log that was not shown yet to the top, where the walk was.
    let mut moved = logs.iter();
    let mut pages = 1;
    while let Some(at) = walk {
        if let Some(log_id) = moved.next().filter(|log_id| !seen.contains(log_id)) {
            world.clock.advance(1_000_000);
            world.say(*log_id, "bob", "x").await;
        }
        let logs;
        (logs, walk) = page(&world, Some(at), false, 2).await;
        seen.extend(ids(&logs));
        pages += 1;
        assert!(pages < 20, "the walk ends");
    }
    assert_eq!(seen.len(), 9);
}

async fn logs_left_and_closed_are_not_listed(db: Db) {
    let world = World::open(db).await;
    let logs = groups(&world, 3).await;
    world.fact(logs[0], 2, closed()).await.expect("a fact");
    world.fact(logs[1], 2, lost("ann")).await.expect("a fact");
    assert_eq!(ids(&page(&world, None, false, 10).await.0), [logs[2]]);
    assert_eq!(world.unreads(&tenant(), &user("ann")).await.len(), 1);
}
