//! What messages that expire cost beside many others that do.

use parlance_db::testing::{costs_the_same, stays_as_cheap};
use parlance_db::{Db, test_on_each_db, work};
use parlance_message::Config;
use parlance_proto::message::v1 as pb;
use uuid::Uuid;

use super::expiries::{SECOND, lasting, sweep};
use crate::harness::{Client, World, get};
use crate::rooms::plan;

test_on_each_db!(parlance_message::MIGRATIONS, crate::expiry::growth, on_own_postgres =>
    a_message_expires_at_the_same_cost_beside_many,
    looking_for_what_has_expired_costs_no_more_beside_many_rooms,
);

struct Place {
    name: String,
    client: Client,
}

type Work = parlance_db::testing::Work<World, Place>;

async fn send(place: &Place, seconds: i64) -> String {
    let request = pb::SendMessageRequest { room_id: place.name.clone(), ..lasting("x", seconds) };
    place.client.clone().messages.send_message(request).await.expect("sent").into_inner().message_id
}

const WORK: &[(&str, Work)] = work! {
    "a message that expires": |_, place| send(place, 3600).await,
    "the page of those that have not expired": |_, place| {
        let (room_id, page_size) = (place.name.clone(), 100);
        let request = pb::ListMessagesRequest { room_id, page_size, ..Default::default() };
        let page = place.client.clone().messages.list_messages(request).await.expect("a page");
        assert_eq!(page.into_inner().messages.len(), 100);
    },
    "a message that has expired, and its deletion": |world, place| {
        let message_id = send(place, 1).await;
        world.clock.advance(SECOND);
        sweep(world).await;
        assert!(get(&mut place.client.clone(), &message_id).await.delete_seq > 0);
    },
};

/// Half of what there is expires long after the rest, and half of it is deleted.
async fn a_message_expires_at_the_same_cost_beside_many(db: Db) {
    let world = World::still(db.clone(), Config::default()).await;
    let mut places = Vec::new();
    for count in [200_i64, 20_000] {
        let name = count.to_string();
        let user = format!("{name}-ann");
        let room = plan(&name).owned(&[&user]).make(&world).await;
        let place = Place { client: world.user(&user), name };
        send(&place, 36_000).await;
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, counted,
                                payload, expire_time, deleted_seq)
            SELECT h.log_id, h.head + n.i, h.head_time, h.ord + n.i, 1, $3,
                   'of old ' || CAST(h.head + n.i AS TEXT), TRUE, m.payload,
                   m.expire_time - $2 + n.i, CASE WHEN n.i % 2 = 0 THEN h.head END
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

async fn looking_for_what_has_expired_costs_no_more_beside_many_rooms(db: Db) {
    let world = World::still(db.clone(), Config::default()).await;
    let grow = async |size: i64| {
        for _ in 0..size {
            let insert = db.write("INSERT INTO expiries (log_id, due) VALUES ($1, $2)");
            let insert = insert.bind(Uuid::now_v7()).bind(3600 * SECOND);
            insert.execute().await.expect("a row");
        }
    };
    stays_as_cheap(&db, async || sweep(&world).await, grow, [20, 2000]).await;
}
