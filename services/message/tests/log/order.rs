//! In which order messages are appended that one caller queues for one log.

use std::collections::VecDeque;

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db, testing};
use parlance_log::Options;
use parlance_message::MIGRATIONS;
use parlance_types::{LogId, Seq};

use crate::log::faults::{name, waiting};
use crate::world::{World, draft, options};

test_on_each_db!(parlance_message::MIGRATIONS =>
    what_is_queued_first_is_appended_first,
);

/// Queues so many messages of a user; where each was stored.
async fn queue(world: &World, log_id: LogId, sender: &str, count: usize) -> Vec<Seq> {
    let queued =
        (0..count).map(|n| world.store.queue(draft(log_id, sender, None, &n.to_string()).entry()));
    let queued: Vec<_> = queued.collect();
    let sent = join_all(queued).await.into_iter();
    sent.map(|sent| sent.expect("a message").message_id.seq).collect()
}

async fn what_is_queued_first_is_appended_first(db: Db) {
    let world = World::with(db, Options { batch: 7, ..options() }).await;
    let rooms = [world.group("a", &["ann", "bob"]).await, world.group("b", &["ann"]).await];
    let [a, b, others] = [(rooms[0], "ann"), (rooms[1], "ann"), (rooms[0], "bob")]
        .map(|(log_id, sender)| queue(&world, log_id, sender, 200));
    let (a, b, others) = tokio::join!(a, b, others);
    for seqs in [a, b, others] {
        assert!(seqs.is_sorted(), "{seqs:?}");
    }
}

/// Some wait in the lane of their room then, others still with its writer, and more come while
/// the lane works.
#[tokio::test]
async fn a_head_that_is_held_for_a_while_changes_no_order() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let world = World::with(db.clone(), Options { writers: 1, batch: 5, ..options() }).await;
        let held = world.group("held", &["ann"]).await;
        for _ in 0..5 {
            let mut holder = db.begin().await.expect("a transaction");
            let works = "SET LOCAL idle_in_transaction_session_timeout = 0";
            holder.query(works).execute().await.expect("set");
            let lock = "UPDATE heads SET head = head WHERE log_id = $1";
            holder.query(lock).bind(held.0).execute().await.expect("locked");
            let one = || world.store.queue(draft(held, "ann", None, "x").entry());
            let mut queued: VecDeque<_> = (0..40).map(|_| one()).collect();
            // The lane waits for longer than the writer, which gives up after 100 ms.
            let mut before = None;
            loop {
                let now = waiting(&db, &name).await;
                if now.is_some() && now != before && before.is_some() {
                    break;
                }
                before = before.or(now);
            }
            holder.rollback().await.expect("unlocked");
            let mut seqs: Vec<Seq> = Vec::new();
            while let Some(sent) = queued.pop_front() {
                seqs.push(sent.await.expect("a message").message_id.seq);
                // What comes meanwhile takes the usual way again as soon as it may.
                if seqs.len() < 60 {
                    queued.push_back(one());
                }
            }
            assert!(seqs.is_sorted(), "{seqs:?}");
        }
    })
    .await;
}
