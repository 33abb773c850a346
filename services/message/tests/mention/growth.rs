//! What mentions cost beside many.

use parlance_db::testing::costs_the_same;
use parlance_db::{Db, test_on_each_db, work};

use super::list_mentions::{lobby, mention, page, unread};
use crate::harness::{Client, World, delete, send};

test_on_each_db!(parlance_message::MIGRATIONS, crate::mention::growth, on_own_postgres =>
    mentions_cost_the_same_beside_many,
);

struct Mentioned {
    world: World,
    user: String,
    ann: Client,
}

type Work = parlance_db::testing::Work<(), Mentioned>;

const WORK: &[(&str, Work)] = work! {
    "ListMentions": |(), place| {
        let client = place.world.user(&place.user);
        let page = page(&client, "lobby", 100, "").await.expect("a page");
        assert_eq!(page.messages.len(), 100);
    },
    "GetUnread and the list": |(), place| {
        let client = place.world.user(&place.user);
        assert_eq!(unread(&place.world, &client, &place.user).await, 100);
    },
    "a mention, and its deletion": |(), place| {
        let mut client = place.ann.clone();
        let message_id = mention(&mut client, "you", &[&place.user]).await;
        delete(&mut client, &message_id).await
    },
};

/// Of one user few messages are mentions, of the other many, all of them unread.
async fn mentions_cost_the_same_beside_many(db: Db) {
    let world = World::open(db.clone()).await;
    let room = lobby(&world).await;
    let mut ann = world.user("ann");
    for _ in 0..20 {
        send(&mut ann, "lobby", "before").await;
    }
    let mut places = Vec::new();
    for (user, count) in [("bob", 200_i64), ("mia", 20_000)] {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, counted,
                                payload)
            SELECT h.log_id, h.head + n.i, h.head_time, h.ord + n.i, 1, 'ann',
                   'of old ' || CAST(h.head + n.i AS TEXT), TRUE, m.payload
              FROM n, heads h JOIN events m ON m.log_id = h.log_id AND m.seq = h.head
             WHERE h.log_id = $1";
        db.write(insert).bind(room.log_id.0).bind(count).execute().await.expect("messages");
        let insert = "
            INSERT INTO mentions (log_id, user_id, seq, sender_id)
            SELECT e.log_id, $2, e.seq, 'ann' FROM events e, heads h
             WHERE e.log_id = $1 AND h.log_id = $1 AND e.seq > h.head";
        let insert = db.write(insert).bind(room.log_id.0).bind(user);
        insert.execute().await.expect("mentions");
        let update = "UPDATE heads SET head = head + $2, ord = ord + $2, mention_seq = head + $2
                      WHERE log_id = $1";
        db.write(update).bind(room.log_id.0).bind(count).execute().await.expect("moved");
        let world = World::open(db.clone()).await;
        places.push(Mentioned { world, user: user.to_owned(), ann: ann.clone() });
    }
    costs_the_same(&db, &(), &places, WORK).await;
}
