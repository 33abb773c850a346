//! What a page of history costs, in steps of SQLite's virtual machine.

use parlance_db::testing::{Steps, on_sqlite};
use parlance_db::{Db, SqliteDb};
use parlance_message::MIGRATIONS;
use parlance_message::message::Range;
use parlance_types::{LogId, MessageId, Seq};

use crate::world::{World, draft};

/// Fills a log with copies of its last message, up to `head`.
async fn fill(db: &SqliteDb, log_id: LogId, from: Seq, head: Seq) {
    let copies = "
        WITH RECURSIVE n (seq) AS (SELECT $2 + 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < $3)
        INSERT INTO events (log_id, seq, time, ord, kind, sender_id, counted, payload)
        SELECT e.log_id, n.seq, e.time, e.ord + n.seq - e.seq, e.kind, e.sender_id, e.counted,
               e.payload
          FROM n, events e WHERE e.log_id = $1 AND e.seq = $2";
    let moved = "UPDATE heads SET head = $2, ord = ord + $2 - head WHERE log_id = $1";
    for (statement, numbers) in [(copies, vec![from, head]), (moved, vec![head])] {
        let query = sqlx::query(statement).bind(log_id.0);
        let query = numbers.into_iter().fold(query, sqlx::query::Query::bind);
        query.execute(&db.write).await.expect("done");
    }
}

/// The steps of the newest page, of one in the middle, and of one as it read before its
/// messages were edited.
async fn steps(world: &World, db: &SqliteDb, size: Seq) -> [u64; 3] {
    let log_id = world.group(&format!("room of {size}"), &["ann"]).await;
    let sent = world.append(draft(log_id, "ann", None, "hello")).await.expect("sent");
    let seq = sent.message_id.seq;
    fill(db, log_id, seq, seq + size).await;
    let head = seq + size;
    for n in 0..100 {
        let message_id = MessageId { log_id, seq: head - n };
        world.edit(message_id, "ann", &format!("edit {n}"), "better").await.expect("edited");
    }
    let steps = Steps::of(db).await;
    let page = async |range, last| {
        let read = world.page(log_id, range, (1, last), 100);
        let (page, taken) = steps.taken_by(read).await;
        assert_eq!(page.expect("a page").len(), 100);
        taken
    };
    [
        page(Range::Before(head + 1), head + 100).await,
        page(Range::After(size / 2), head).await,
        page(Range::Before(head + 1), head).await,
    ]
}

#[tokio::test]
async fn a_page_of_a_large_room_costs_what_one_of_a_small_room_does() {
    on_sqlite(MIGRATIONS, async |db| {
        let Db::Sqlite(sqlite) = &db else { unreachable!("a SQLite database") };
        let world = World::open(db.clone()).await;
        let small = steps(&world, sqlite, 500).await;
        let large = steps(&world, sqlite, 50_000).await;
        for (small, large) in small.into_iter().zip(large) {
            assert!(large <= small + small / 10, "{large} steps instead of {small}");
        }
    })
    .await;
}
