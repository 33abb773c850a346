//! What a thread costs beside many replies.

use parlance_db::testing::costs_the_same;
use parlance_db::{Db, test_on_each_db, work};

use super::list_replies::{lobby, page, reply};
use crate::harness::{Client, World, delete, get, send};

test_on_each_db!(parlance_message::MIGRATIONS, crate::thread::growth, on_own_postgres =>
    a_thread_costs_the_same_beside_many_replies,
);

struct Threaded {
    client: Client,
    root: String,
}

type Work = parlance_db::testing::Work<World, Threaded>;

const WORK: &[(&str, Work)] = work! {
    "ListReplies": |_, place| {
        let page = page(&place.client, &place.root, 100, "").await.expect("a page");
        assert_eq!(page.replies.len(), 100);
    },
    "GetMessage": |_, place| get(&mut place.client.clone(), &place.root).await,
    "a reply, and its deletion": |_, place| {
        let mut client = place.client.clone();
        let message_id = reply(&mut client, &place.root, "one more").await;
        delete(&mut client, &message_id).await
    },
};

async fn a_thread_costs_the_same_beside_many_replies(db: Db) {
    let world = World::open(db.clone()).await;
    let room = lobby(&world).await;
    let mut client = world.user("ann");
    let mut places = Vec::new();
    for count in [100_i64, 10_000] {
        let sent = send(&mut client, "lobby", "root").await;
        // Half of those that follow are deleted.
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, counted,
                                payload, root_seq, deleted_seq)
            SELECT h.log_id, h.head + n.i, h.head_time, h.ord + n.i, 1, 'ann',
                   'of old ' || CAST(h.head + n.i AS TEXT), TRUE, m.payload, m.seq,
                   CASE WHEN n.i > $2 / 2 + 50 THEN h.head END
              FROM n, heads h JOIN events m ON m.log_id = h.log_id AND m.seq = $3
             WHERE h.log_id = $1";
        let insert = db.write(insert).bind(room.log_id.0).bind(count).bind(sent.seq);
        insert.execute().await.expect("replies");
        let update = "UPDATE heads SET head = head + $2, ord = ord + $2 WHERE log_id = $1";
        db.write(update).bind(room.log_id.0).bind(count).execute().await.expect("moved");
        let update = "UPDATE events SET replies = $3 WHERE log_id = $1 AND seq = $2";
        let update = db.write(update).bind(room.log_id.0).bind(sent.seq);
        update.bind(count / 2 + 50).execute().await.expect("counted");
        places.push(Threaded { client: client.clone(), root: sent.message_id });
    }
    costs_the_same(&db, &world, &places, WORK).await;
}
