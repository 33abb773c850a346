//! Whose turn it is when many wait, and what shares a transaction.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_log::{Appended, Options};
use parlance_message::Error;
use parlance_message::message::Deletion;
use parlance_rpc::Reason;
use parlance_types::{LogId, MessageId, TenantId};

use crate::log::sends::refuse_events_of;
use crate::rooms::plan;
use crate::world::{World, actor, draft, options, refused};

test_on_each_db!(parlance_message::MIGRATIONS =>
    messages_of_others_wait_for_no_more_than_one_transaction_of_a_flood,
    changes_of_others_wait_for_no_more_than_two_transactions_of_a_flood,
    whoever_fills_the_queue_is_refused_and_nobody_else,
    changes_share_transactions,
    each_change_is_judged_by_what_the_one_before_it_left,
    a_change_that_the_database_cannot_take_fails_alone,
);

/// Changes that share a transaction at most.
const CHANGES: usize = 16;

const FLOOD: usize = 480;

/// How many events were told so far, of all logs but these.
fn told_of_others(world: &World, logs: &[LogId]) -> usize {
    of_others(&world.published.lock().expect("a lock"), logs)
}

/// The same up to the last event of these logs: what came after it did not hold it up.
fn told_of_others_before(world: &World, logs: &[LogId]) -> usize {
    let published = world.published.lock().expect("a lock");
    let last = published.iter().rposition(|appended| logs.contains(&appended.log_id));
    of_others(&published[..last.expect("an event")], logs)
}

/// Each event once: those whose commit was in doubt are told again.
fn of_others(published: &[Appended], logs: &[LogId]) -> usize {
    let others = published.iter().filter(|appended| !logs.contains(&appended.log_id));
    let events = others.flat_map(|appended| appended.events.iter().map(|event| event.seq));
    events.collect::<BTreeSet<_>>().len()
}

/// Floods the only writer with edits of one user while `others` is done.
async fn flood(world: &World, others: impl AsyncFnOnce()) {
    let log_id = world.group("loud", &["ann"]).await;
    let loud = world.say(log_id, "ann", "loud").await.message_id;
    let ids: Vec<_> = (0..FLOOD).map(|n| n.to_string()).collect();
    let edits = join_all(ids.iter().map(|id| world.edit(loud, "ann", id, id)));
    let (edits, ()) = tokio::join!(edits, others());
    for edit in edits {
        edit.expect("an edit");
    }
}

/// Who waits behind a flood is never late, however busy the machine is.
async fn one_writer(db: Db) -> World {
    let deadline = Duration::from_mins(5);
    World::with(db, Options { writers: 1, deadline, ..options() }).await
}

async fn messages_of_others_wait_for_no_more_than_one_transaction_of_a_flood(db: Db) {
    let world = one_writer(db).await;
    let zeta = TenantId::new("zeta");
    let quiet = plan("r").of_tenant("zeta").owned(&["cas"]).make(&world).await.log_id;
    let beside = world.group("beside", &["bob"]).await;
    let logs = [quiet, beside];
    flood(&world, async || {
        for _ in 0..10 {
            for entry in [
                draft(quiet, "cas", None, "x").entry_of(zeta.clone()),
                draft(beside, "bob", None, "x").entry(),
            ] {
                let before = told_of_others(&world, &logs);
                world.store.append(entry).await.expect("a message");
                let edits = told_of_others_before(&world, &logs) - before;
                assert!(edits <= CHANGES, "it waited for {edits}");
            }
        }
        assert!(told_of_others(&world, &logs) < FLOOD, "the flood is over");
    })
    .await;
}

async fn changes_of_others_wait_for_no_more_than_two_transactions_of_a_flood(db: Db) {
    let world = one_writer(db).await;
    let log_id = world.group("r", &["bob"]).await;
    let message_id = world.say(log_id, "bob", "one").await.message_id;
    flood(&world, async || {
        for n in 0..10 {
            let before = told_of_others(&world, &[log_id]);
            world.edit(message_id, "bob", &n.to_string(), "two").await.expect("an edit");
            let edits = told_of_others_before(&world, &[log_id]) - before;
            assert!(edits <= 2 * CHANGES, "it waited for {edits}");
        }
        assert!(told_of_others(&world, &[log_id]) < FLOOD, "the flood is over");
    })
    .await;
}

async fn whoever_fills_the_queue_is_refused_and_nobody_else(db: Db) {
    let world = World::with(db, Options { queue: 4, writers: 1, ..options() }).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let other = plan("r").of_tenant("zeta").owned(&["cas"]).make(&world).await.log_id;
    let message_id = world.say(log_id, "bob", "one").await.message_id;
    let flood = join_all((0..20).map(|_| world.append(draft(log_id, "ann", None, "x"))));
    let of_zeta = draft(other, "cas", None, "x").entry_of(TenantId::new("zeta"));
    let (flood, bob, cas, edit) = tokio::join!(
        flood,
        world.append(draft(log_id, "bob", None, "x")),
        world.store.append(of_zeta),
        world.edit(message_id, "bob", "e", "two"),
    );
    bob.expect("a user of the same tenant");
    cas.expect("a user of another tenant");
    edit.expect("a change");
    let (stored, refused): (Vec<_>, Vec<_>) = flood.into_iter().partition(Result::is_ok);
    assert_eq!((stored.len(), refused.len()), (2, 18));
    for send in refused {
        assert!(matches!(send, Err(Error::Refused(Reason::Overloaded, _))), "{send:?}");
    }
}

/// Of several rooms, too.
async fn changes_share_transactions(db: Db) {
    let world = one_writer(db).await;
    let mut messages: Vec<MessageId> = Vec::new();
    for room in 0..4 {
        let log_id = world.group(&room.to_string(), &["ann"]).await;
        messages.push(world.say(log_id, "ann", "one").await.message_id);
    }
    let before = world.commits.load(Ordering::Relaxed);
    let ids: Vec<_> = (0..10 * CHANGES).map(|n| n.to_string()).collect();
    let edits = ids.iter().zip(messages.iter().cycle());
    for edit in join_all(edits.map(|(id, message)| world.edit(*message, "ann", id, id))).await {
        edit.expect("an edit");
    }
    assert_eq!(world.commits.load(Ordering::Relaxed) - before, 10);
    let last = &ids[ids.len() - messages.len()..];
    for (message, last) in messages.into_iter().zip(last) {
        let now = world.message(message).await.expect("a message");
        let content = now.content.expect("a content");
        assert!(content.windows(last.len()).any(|bytes| bytes == last.as_bytes()), "the last");
    }
}

async fn each_change_is_judged_by_what_the_one_before_it_left(db: Db) {
    let world = one_writer(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let one = world.say(log_id, "ann", "one").await.message_id;
    let two = world.say(log_id, "bob", "two").await.message_id;
    let before = world.commits.load(Ordering::Relaxed);
    let (first, foreign, deleted, late, again, other) = tokio::join!(
        world.edit(one, "ann", "1", "edited"),
        world.edit(one, "bob", "1", "not mine"),
        world.store.run(Deletion { actor: actor("ann"), message_id: one, on_delete: &[] }),
        world.edit(one, "ann", "2", "too late"),
        world.edit(one, "ann", "1", "edited"),
        world.edit(two, "bob", "2", "edited"),
    );
    let first = first.expect("an edit");
    refused(foreign, Reason::NotTheSender);
    deleted.expect("deleted");
    refused(late, Reason::MessageDeleted);
    assert_eq!(again.expect("a repeat"), first);
    other.expect("an edit");
    assert_eq!(world.commits.load(Ordering::Relaxed) - before, 1, "in one transaction");
    // Those that were refused left nothing.
    assert_eq!(world.head(log_id).await, 4 + 3);
    assert_eq!(world.unread("bob", log_id).await, Some(0));
}

async fn a_change_that_the_database_cannot_take_fails_alone(db: Db) {
    let world = one_writer(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let anns = world.say(log_id, "ann", "one").await.message_id;
    let bobs = world.say(log_id, "bob", "two").await.message_id;
    refuse_events_of(&world.db, "bob").await;
    let edits = (0..20).map(|n| {
        let (message, editor) = if n % 10 == 7 { (bobs, "bob") } else { (anns, "ann") };
        let world = &world;
        async move { world.edit(message, editor, &n.to_string(), "x").await }
    });
    for (n, edit) in join_all(edits).await.into_iter().enumerate() {
        assert_eq!(matches!(edit, Err(Error::Store(_))), n % 10 == 7, "{edit:?}");
    }
    assert_eq!(world.head(log_id).await, 4 + 18);
}
