//! A database that goes away, or is not the one it was.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use parlance_db::{Db, testing};
use parlance_log::{Actor, CursorCheck, Options};
use parlance_message::message::Deletion;
use parlance_message::{Error, MIGRATIONS};
use parlance_rpc::Reason;
use parlance_rpc::testing::eventually;
use parlance_types::{Seq, TenantId};
use tokio::sync::Notify;

use crate::rooms::gained;
use crate::world::{World, draft, options, refused, user};

/// Names the connections of a store, so that a test ends only its own.
pub(crate) fn name(db: Db) -> (Db, String) {
    let Db::Postgres(mut postgres) = db else { panic!("a Postgres") };
    let name = format!("writer-{}", uuid::Uuid::now_v7().simple());
    postgres.options = postgres.options.application_name(&name);
    (Db::Postgres(postgres), name)
}

/// Ends the connections of a store's writers; how many there were.
pub(crate) async fn kill(db: &Db, name: &str) -> i64 {
    let kill = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = $1";
    db.read(kill).bind(name).fetch_one::<(i64,)>().await.expect("killed").0
}

/// Guarantees 1, 2 and 3 when the writer's connection is lost at any moment.
#[tokio::test]
async fn every_message_is_stored_once_when_writers_lose_their_connections() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let world = World::with(db.clone(), Options { batch: 8, ..options() }).await;
        let log_id = world.group("r", &["ann"]).await;
        let mut acknowledged: BTreeMap<Seq, String> = BTreeMap::new();
        let mut killed = 0;
        for round in 0..15 {
            let ids: Vec<_> = (0..40).map(|n| format!("{round}-{n}")).collect();
            // Every second one without an id of its own.
            let sends = ids.iter().enumerate().map(|(n, id)| {
                let request_id = (n % 2 == 0).then_some(id.as_str());
                world.append(draft(log_id, "ann", request_id, id))
            });
            let (sent, ended) = tokio::join!(join_all(sends), async {
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
                kill(&db, &name).await
            });
            killed += ended;
            for (sent, id) in sent.into_iter().zip(&ids) {
                let seq = sent.expect("answered definitely").message_id.seq;
                assert_eq!(acknowledged.insert(seq, id.clone()), None);
            }
            for id in ids.iter().step_by(2) {
                let again = world.send(log_id, "ann", id, id).await.expect("a repeat");
                assert_eq!(acknowledged.get(&again.message_id.seq), Some(id));
            }
        }
        assert!(killed > 10, "{killed} connections were ended");
        assert!(world.store.unknown_commits() > 0);
        // Each once, none too many, and all of them published.
        assert_eq!(acknowledged.len(), 600);
        assert_eq!(world.head(log_id).await, 602);
        let published = world.published.lock().expect("a lock").clone();
        // A repeat of a request may be published again where the first commit was unknown.
        let mut seqs: Vec<Seq> = Vec::new();
        for seq in published.iter().flat_map(|new| new.events.iter().map(|event| event.seq)) {
            if seqs.last().is_none_or(|last| *last < seq) {
                seqs.push(seq);
            }
        }
        assert_eq!(seqs, (1..603).collect::<Vec<_>>());
    })
    .await;
}

/// Facts and edits are run again too, and are found applied.
#[tokio::test]
async fn changes_survive_a_lost_connection() {
    /// In each round, in one transaction.
    const EDITS: Seq = 10;
    const LAST: Seq = 3 + 18 * (1 + EDITS);
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let world = World::with(db.clone(), options()).await;
        let log_id = world.group("r", &["ann"]).await;
        let sent = world.say(log_id, "ann", "one").await.message_id;
        for version in 2..20 {
            let user = version.to_string();
            let ids: Vec<_> = (0..EDITS).map(|n| format!("{version}-{n}")).collect();
            let (applied, edited, _) = tokio::join!(
                world.fact(log_id, version, gained(&user)),
                join_all(ids.iter().map(|id| world.edit(sent, "ann", id, id))),
                kill(&db, &name),
            );
            assert_eq!(applied.expect("applied").applied, version);
            for (edited, id) in edited.into_iter().zip(&ids) {
                let edited = edited.expect("an edit");
                assert_eq!(world.edit(sent, "ann", id, id).await.expect("a repeat"), edited);
            }
        }
        assert_eq!(world.head(log_id).await, LAST);
        let published = world.published.lock().expect("a lock").clone();
        let seqs: BTreeSet<Seq> =
            published.iter().flat_map(|new| new.events.iter().map(|event| event.seq)).collect();
        assert_eq!(seqs, (1..=LAST).collect());
    })
    .await;
}

#[tokio::test]
async fn another_server_behind_the_same_address_begins_an_epoch_before_the_first_append() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let world = World::with(db.clone(), Options { writers: 1, ..options() }).await;
        let log_id = world.group("r", &["ann"]).await;
        let first = world.say(log_id, "ann", "one").await;
        // As a backup would have it that was taken elsewhere.
        let elsewhere = "UPDATE witness SET seen = 'elsewhere'";
        db.write(elsewhere).execute().await.expect("rewound");
        assert_eq!(world.say(log_id, "ann", "two").await.epoch, first.epoch, "not noticed yet");
        assert_eq!(kill(&db, &name).await, 1);
        let third = world.say(log_id, "ann", "three").await;
        assert_ne!(third.epoch, first.epoch);
        let seq = third.message_id.seq;
        let check =
            world.store.check_cursor(log_id, &first.epoch, seq, false).await.expect("checked");
        assert_eq!(check, CursorCheck::Rewound { keep_through: seq - 1 });
        // A second one on the same server begins none.
        let other = World::with(db.clone(), options()).await;
        assert_eq!(other.store.epoch().await.expect("an epoch"), third.epoch);
        assert_eq!(other.say(log_id, "ann", "four").await.epoch, third.epoch);
    })
    .await;
}

/// The pool may still reach the server that was written before.
#[tokio::test]
async fn a_writer_begins_the_epoch_of_its_server_there() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let Db::Postgres(mut postgres) = db.clone() else { panic!("a Postgres") };
        postgres.read = postgres.read.with(postgres.options.clone());
        postgres.write = postgres.write.with(postgres.options.clone());
        let reads = Db::Postgres(postgres.clone());
        let world = World::with(Db::Postgres(postgres), Options { writers: 1, ..options() }).await;
        let log_id = world.group("r", &["ann"]).await;
        let first = world.say(log_id, "ann", "one").await;
        let elsewhere = "UPDATE witness SET seen = 'elsewhere'";
        db.write(elsewhere).execute().await.expect("rewound");
        reads.close().await;
        assert_eq!(kill(&db, &name).await, 1);
        assert_ne!(world.say(log_id, "ann", "two").await.epoch, first.epoch);
    })
    .await;
}

#[tokio::test]
async fn replicas_that_notice_another_server_at_once_begin_one_epoch() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let epochs = async || {
            let count = db.read("SELECT COUNT(*) FROM epochs").fetch_one::<(i64,)>().await;
            count.expect("a count").0
        };
        for round in 1..=5 {
            join_all((0..4).map(|_| World::with(db.clone(), options()))).await;
            assert_eq!(epochs().await, round);
            let elsewhere = "UPDATE witness SET seen = 'elsewhere'";
            db.write(elsewhere).execute().await.expect("rewound");
        }
    })
    .await;
}

#[tokio::test]
async fn every_start_on_sqlite_begins_an_epoch() {
    testing::on_sqlite(MIGRATIONS, async |db| {
        let first = World::open(db.clone()).await;
        let log_id = first.group("r", &["ann"]).await;
        let sent = first.say(log_id, "ann", "one").await;
        first.store.close().await;
        let second = World::open(db).await;
        let next = second.say(log_id, "ann", "two").await;
        assert_ne!(sent.epoch, next.epoch);
        let check =
            second.store.check_cursor(log_id, &sent.epoch, 3, false).await.expect("checked");
        assert_eq!(check, CursorCheck::Holds);
    })
    .await;
}

/// An outage is an error, and passes without a restart.
#[tokio::test]
async fn a_store_that_lost_all_connections_works_again() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let world = World::with(db.clone(), options()).await;
        let log_id = world.group("r", &["ann"]).await;
        world.say(log_id, "ann", "one").await;
        kill(&db, &name).await;
        eventually(|| async {
            let left = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = $1";
            let left = db.read(left).bind(&name).fetch_one::<(i64,)>().await;
            left.expect("a count").0 == 0
        })
        .await;
        assert_eq!(world.say(log_id, "ann", "two").await.message_id.seq, 4);
    })
    .await;
}

/// An outage is never "no": what was not begun fails, and may be sent again.
#[tokio::test]
async fn a_database_that_cannot_be_reached_is_an_outage_and_stores_nothing() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let world = World::with(db.clone(), options()).await;
        let log_id = world.group("r", &["ann"]).await;
        let Db::Postgres(mut postgres) = db else { panic!("a Postgres") };
        // Nobody listens there.
        postgres.options = postgres.options.port(1);
        let cut_off = World::with(Db::Postgres(postgres), options()).await;
        let sends = (0..10).map(|n| {
            let id = n.to_string();
            let store = &cut_off.store;
            async move { store.append(draft(log_id, "ann", Some(&id), "x").entry()).await }
        });
        for sent in join_all(sends).await {
            assert!(matches!(sent, Err(Error::Store(_))), "{sent:?}");
        }
        assert_eq!(world.head(log_id).await, 2);
        assert_eq!(world.send(log_id, "ann", "0", "x").await.expect("sent").message_id.seq, 3);
    })
    .await;
}

/// Whoever holds the head of a room for long holds up that room only.
#[tokio::test]
async fn a_head_that_is_held_does_not_fail_the_other_rooms_of_its_batch() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, _) = name(db);
        let world = World::with(db.clone(), Options { writers: 1, ..options() }).await;
        let (held, free) = (world.group("a", &["ann"]).await, world.group("b", &["ann"]).await);
        let mut holder = db.begin().await.expect("a transaction");
        // A holder that works for long, not one that stands still: that loses its locks.
        let works = "SET LOCAL idle_in_transaction_session_timeout = 0";
        holder.query(works).execute().await.expect("set");
        let lock = "UPDATE heads SET head = head WHERE log_id = $1";
        holder.query(lock).bind(held.0).execute().await.expect("locked");
        let send = |log_id| world.append(draft(log_id, "ann", None, "x"));
        // The first goes alone, the others wait for it and share a batch.
        let (first, others) =
            tokio::join!(send(free), join_all([send(held), send(free), send(held), send(free)]));
        assert_eq!(first.expect("sent").message_id.seq, 3);
        for (n, sent) in others.into_iter().enumerate() {
            assert_eq!(sent.is_ok(), n % 2 == 1, "{sent:?}");
        }
        holder.rollback().await.expect("unlocked");
        assert_eq!((world.head(held).await, world.head(free).await), (2, 5));
    })
    .await;
}

/// The query of a connection that waits for a lock, and since when.
pub(crate) async fn waiting(db: &Db, name: &str) -> Option<(i64, String)> {
    let waiting = "SELECT pid::bigint, query_start::text FROM pg_stat_activity
                    WHERE application_name = $1 AND wait_event_type = 'Lock'";
    db.read(waiting).bind(name).fetch_optional().await.expect("who waits")
}

/// Whatever is asked of a room whose head is held waits beside its writer: in the time of one
/// such wait all other rooms of the writer are served, with messages and with changes.
#[tokio::test]
async fn other_rooms_of_a_writer_do_not_wait_for_a_head_that_is_held() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let world = World::with(db.clone(), Options { writers: 1, ..options() }).await;
        let held = world.group("held", &["ann"]).await;
        let mine = world.say(held, "ann", "mine").await.message_id;
        let mut others = Vec::new();
        for n in 0..23 {
            let log_id = world.group(&n.to_string(), &["ann"]).await;
            others.push(world.say(log_id, "ann", "one").await.message_id);
        }
        let mut holder = db.begin().await.expect("a transaction");
        let works = "SET LOCAL idle_in_transaction_session_timeout = 0";
        holder.query(works).execute().await.expect("set");
        let lock = "UPDATE heads SET head = head WHERE log_id = $1";
        holder.query(lock).bind(held.0).execute().await.expect("locked");
        let served = Notify::new();
        // They come again and again, as clients do whose answer is late.
        let asks = |n: usize| {
            let (world, served) = (&world, &served);
            async move {
                let id = n.to_string();
                let ask = async || match n % 3 {
                    0 => world.fact(held, 2, gained("bob")).await.is_ok(),
                    1 => world.edit(mine, "ann", &id, "x").await.is_ok(),
                    _ => world.send(held, "ann", &id, "x").await.is_ok(),
                };
                tokio::select! {
                    () = async { while !ask().await {} } => panic!("the head is held"),
                    () = served.notified() => {}
                }
                while !ask().await {}
            }
        };
        let others_go_on = async {
            loop {
                let before = waiting(&db, &name).await;
                for (n, message_id) in others.iter().enumerate() {
                    if n % 2 == 0 {
                        world.say(message_id.log_id, "ann", "x").await;
                    } else {
                        world.edit(*message_id, "ann", "e", "x").await.expect("an edit");
                    }
                }
                if before.is_some() && waiting(&db, &name).await == before {
                    break;
                }
            }
            served.notify_waiters();
            holder.rollback().await.expect("unlocked");
        };
        tokio::join!(join_all((0..6).map(asks)), others_go_on);
        // Its members had their say, and the room is back with its writer.
        assert_eq!(world.head(held).await, 3 + 1 + 2 + 2);
        world.say(held, "ann", "free").await;
    })
    .await;
}

/// Nor does it wait: how long an answer takes tells nothing of other tenants.
#[tokio::test]
async fn a_change_by_another_tenant_takes_no_lock() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, _) = name(db);
        let world = World::with(db.clone(), options()).await;
        let log_id = world.group("r", &["ann"]).await;
        let message_id = world.say(log_id, "ann", "one").await.message_id;
        let mut holder = db.begin().await.expect("a transaction");
        let lock = "UPDATE heads SET head = head WHERE log_id = $1";
        holder.query(lock).bind(log_id.0).execute().await.expect("locked");
        let actor = Actor { tenant_id: TenantId::new("other"), user: Some(user("ann")) };
        let foreign = Deletion { actor, message_id, on_delete: &[] };
        refused(world.store.run(foreign).await, Reason::MessageNotFound);
        holder.rollback().await.expect("unlocked");
        world.delete(message_id, "ann").await.expect("deleted");
    })
    .await;
}

/// Why the append is a function. A statement that waits for a lock reads as of before
/// it waited: it misses a removal that was committed meanwhile. Each statement of a
/// function takes a snapshot of its own.
#[tokio::test]
async fn a_single_statement_that_waits_for_the_head_misses_a_removal_and_the_function_does_not() {
    const STATEMENT: &str = "
        WITH locked AS MATERIALIZED (SELECT log_id FROM heads WHERE log_id = $1 FOR UPDATE)
        SELECT COUNT(*) FROM locked l JOIN members m ON m.log_id = l.log_id
         WHERE m.user_id = 'bob'";
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, _) = name(db);
        let world = World::with(db.clone(), options()).await;
        let log_id = world.group("r", &["ann", "bob"]).await;
        world.say(log_id, "bob", "a member").await;

        let mut removal = db.begin().await.expect("a transaction");
        let lock = "UPDATE heads SET head = head WHERE log_id = $1";
        removal.query(lock).bind(log_id.0).execute().await.expect("locked");
        let remove = "DELETE FROM members WHERE log_id = $1 AND user_id = 'bob'";
        removal.query(remove).bind(log_id.0).execute().await.expect("removed");

        let statement = db.read(STATEMENT).bind(log_id.0).fetch_one::<(i64,)>();
        let commit = async {
            // Both wait for the head: who waits for a row holds its place in the row's queue, or
            // waits for it.
            eventually(|| async {
                let waiting = "SELECT COUNT(*) FROM pg_locks
                                WHERE locktype = 'tuple' AND relation = 'heads'::regclass";
                let waiting = db.read(waiting).fetch_one::<(i64,)>().await;
                waiting.expect("a count").0 >= 2
            })
            .await;
            removal.commit().await.expect("committed");
        };
        let (members, sent, ()) =
            tokio::join!(statement, world.send(log_id, "bob", "id", "removed"), commit);
        assert_eq!(members.expect("a count"), (1,), "the single statement still sees a member");
        refused(sent, Reason::NotAMember);
    })
    .await;
}
