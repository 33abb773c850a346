//! What a hook costs the database beside many messages.

use std::sync::atomic::{AtomicI64, Ordering};

use parlance_db::testing::costs_the_same;
use parlance_db::{Db, test_on_each_db, work};
use parlance_message::hook::OnFailure;
use parlance_proto::message::v1 as pb;

use super::checks::sent;
use super::judge::Judge;
use crate::harness::{Client, World, editing, saying};
use crate::rooms::plan;

test_on_each_db!(parlance_message::MIGRATIONS, crate::hook::growth, on_own_postgres =>
    beside_messages_of_the_sender,
);

/// A room with messages of Ann's.
struct Place {
    name: String,
    ann: Client,
    first: String,
    next: AtomicI64,
}

type Work = parlance_db::testing::Work<World, Place>;

impl Place {
    fn named(&self, request_id: &str) -> pb::SendMessageRequest {
        pb::SendMessageRequest {
            request_id: request_id.to_owned(),
            ..saying(&self.name, "darn it")
        }
    }

    async fn edit(&self, request_id: &str) {
        let request_id = request_id.to_owned();
        let edit = pb::EditMessageRequest { request_id, ..editing(&self.first, "darn it") };
        self.ann.clone().messages.edit_message(edit).await.expect("edited");
    }

    fn next(&self) -> String {
        format!("new {}", self.next.fetch_add(1, Ordering::Relaxed))
    }
}

const WORK: &[(&str, Work)] = work! {
    "SendMessage": |_, place| sent(&mut place.ann.clone(), place.named(&place.next())).await,
    "a repeat of SendMessage": |_, place| {
        sent(&mut place.ann.clone(), place.named("first")).await
    },
    "EditMessage": |_, place| place.edit(&place.next()).await,
    "a repeat of EditMessage": |_, place| place.edit("first edit").await,
};

async fn beside_messages_of_the_sender(db: Db) {
    let world = Judge::default().world(db.clone(), OnFailure::Closed).await;
    let mut places = Vec::new();
    for (name, count) in [("small", 100_i64), ("large", 10_000)] {
        let user = format!("{name}-ann");
        let room = plan(name).owned(&[&user]).make(&world).await;
        let (name, ann, next) = (name.to_owned(), world.user(&user), AtomicI64::new(0));
        let mut place = Place { name, ann, first: String::new(), next };
        place.first = sent(&mut place.ann.clone(), place.named("first")).await.message_id;
        place.edit("first edit").await;
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, counted,
                                payload)
            SELECT h.log_id, h.head + n.i, h.head_time, h.ord + n.i, 1, $3,
                   'of old ' || CAST(h.head + n.i AS TEXT), TRUE, m.payload
              FROM n, heads h JOIN events m ON m.log_id = h.log_id AND m.seq = h.head
             WHERE h.log_id = $1";
        let insert = db.write(insert).bind(room.log_id.0).bind(count).bind(user);
        insert.execute().await.expect("messages");
        let update = "UPDATE heads SET head = head + $2, ord = ord + $2 WHERE log_id = $1";
        db.write(update).bind(room.log_id.0).bind(count).execute().await.expect("moved");
        places.push(place);
    }
    costs_the_same(&db, &world, &places, WORK).await;
}
