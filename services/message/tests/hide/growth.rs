//! What hiding messages costs, and what is read by who has hidden some, beside many.

use parlance_db::testing::costs_the_same;
use parlance_db::{Db, test_on_each_db, work};
use parlance_message::Config;
use parlance_proto::message::v1 as pb;

use super::hide_messages::{fill, hide};
use crate::harness::{Client, TENANT, World, get, send, unread};
use crate::rooms::{Room, plan};

test_on_each_db!(parlance_message::MIGRATIONS, crate::hide::growth, on_own_postgres =>
    hiding_costs_the_same_beside_many_messages_that_others_hid,
);

struct Place {
    name: String,
    room: Room,
    ann: Client,
    /// Has hidden the last ten messages.
    bob: Client,
    last: String,
}

type Work = parlance_db::testing::Work<World, Place>;

const WORK: &[(&str, Work)] = work! {
    "HideMessages": |_, place| {
        let sent = send(&mut place.ann.clone(), &place.name, "x").await;
        hide(&place.bob, &[&sent.message_id]).await;
    },
    "the latest page": |_, place| {
        let (room_id, page_size) = (place.name.clone(), 100);
        let request = pb::ListMessagesRequest { room_id, page_size, ..Default::default() };
        let page = place.bob.clone().messages.list_messages(request).await.expect("a page");
        assert!(page.into_inner().messages.len() >= 50);
    },
    "GetMessage": |_, place| get(&mut place.ann.clone(), &place.last).await,
    "GetUnread": |_, place| unread(&mut place.bob.clone()).await,
    "ListUserLogs": |world, place| {
        let user_id = format!("{}-bob", place.name);
        let request =
            pb::ListUserLogsRequest { user_id, skip_empty: true, ..Default::default() };
        let list = world.internal(TENANT).user_logs.list_user_logs(request).await;
        assert_eq!(list.expect("a list").into_inner().logs.len(), 1);
    },
    "a join and a leave": |_, place| {
        place.room.join("zoe").await;
        place.room.leave("zoe").await
    },
    "a look for what is left": |world, _| world.service.hider().sweep().await.expect("swept"),
};

/// The same two users, in a room in which others hid few messages, and in one in which many did.
async fn hiding_costs_the_same_beside_many_messages_that_others_hid(db: Db) {
    let world = World::still(db.clone(), Config::default()).await;
    let mut places = Vec::new();
    for count in [200_i64, 20_000] {
        let name = count.to_string();
        let users = ["ann", "bob"].map(|user| format!("{name}-{user}"));
        let room = plan(&name).owned(&users.each_ref().map(String::as_str)).make(&world).await;
        let [ann, bob] = users.map(|user| world.user(&user));
        send(&mut ann.clone(), &name, "x").await;
        let ids = fill(&world, &room, count).await;
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO hidden_messages (log_id, user_id, joined_seq, seq)
            SELECT $1, 'user ' || CAST(n.i % 50 AS TEXT), 2, 3 + n.i FROM n";
        db.write(insert).bind(room.log_id.0).bind(count).execute().await.expect("hidden");
        let last: Vec<&str> = ids[ids.len() - 10..].iter().map(String::as_str).collect();
        hide(&bob, &last).await;
        let last = last[0].to_owned();
        places.push(Place { name, room, ann, bob, last });
    }
    costs_the_same(&db, &world, &places, WORK).await;
}
