//! What reactions cost, and the messages that have them, beside a hundred times as many.

use std::sync::atomic::{AtomicUsize, Ordering};

use parlance_db::testing::costs_the_same;
use parlance_db::{Db, test_on_each_db, work};
use parlance_message::{Config, ON_PRUNE};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_types::MessageId;
use prost::Message as _;

use super::reactions::{list, listed, of, react, remove, replace};
use crate::harness::{Client, TENANT, World, delete, get, send};
use crate::rooms::{Room, plan};

test_on_each_db!(parlance_message::MIGRATIONS, crate::reaction::growth, on_own_postgres =>
    beside_reactions,
);

/// How many reactions a message has, and a hundred times as many.
const SIZES: [i64; 2] = [100, 10_000];

/// Kinds of them.
const KINDS: i64 = 20;

/// A room whose first messages have many reactions.
struct Place {
    name: String,
    room: Room,
    ann: Client,
    /// Reacts, and reads; one of those who are counted already.
    rita: Client,
    messages: Vec<MessageId>,
    /// What is deleted and what is cleared for all next.
    deleted: AtomicUsize,
    cleared: AtomicUsize,
}

/// What is cleared first, what is deleted, what is read, and one more like it.
const CLEARED: usize = 0;
const DELETED: usize = 6;
const READ: usize = 12;
const MANY: usize = 14;

impl Place {
    async fn new(world: &World, name: &str, size: i64) -> Self {
        let users = ["ann", "rita"].map(|user| format!("{name}-{user}"));
        let room = plan(name).owned(&users.each_ref().map(String::as_str)).make(world).await;
        let [ann, rita] = users.map(|user| world.user(&user));
        let mut messages = Vec::new();
        for _ in 0..30 {
            let seq = send(&mut ann.clone(), name, "hello").await.seq;
            messages.push(MessageId { log_id: room.log_id, seq });
        }
        let (deleted, cleared) = (AtomicUsize::new(DELETED), AtomicUsize::new(CLEARED));
        let place = Self { name: name.to_owned(), room, ann, rita, messages, deleted, cleared };
        for message in 0..MANY {
            place.fill(world, message, size).await;
        }
        let mut pins = PinServiceClient::new(place.ann.transport.clone());
        let pin = pb::PinMessageRequest { message_id: place.read() };
        pins.pin_message(pin).await.expect("pinned");
        place
    }

    /// Makes so many users react to a message, faster than by requests.
    async fn fill(&self, world: &World, message: usize, size: i64) {
        let (db, seq) = (world.service.store().db(), self.messages[message].seq);
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $3)
            INSERT INTO reactions (log_id, message_seq, reaction_seq, time, user_id, kind)
            SELECT $1, $2, 1000000 + n.i, 1,
                   CASE WHEN n.i = 50 THEN $5 ELSE 'user ' || CAST(n.i AS TEXT) END,
                   'kind ' || CAST(n.i % $4 AS TEXT) FROM n";
        let insert = db.write(insert).bind(self.room.log_id.0).bind(seq).bind(size).bind(KINDS);
        insert.bind(format!("{}-rita", self.name)).execute().await.expect("filled");
        let kind = |n: i64| pb::ReactionCount {
            kind: format!("kind {n}"),
            count: size / KINDS,
            own: false,
        };
        let reactions = (0..KINDS).map(kind).collect();
        let counts = pb::Message { reactions, ..Default::default() }.encode_to_vec();
        let update = "UPDATE events SET reaction_counts = $3 WHERE log_id = $1 AND seq = $2";
        let update = db.write(update).bind(self.room.log_id.0).bind(seq).bind(counts);
        update.execute().await.expect("counted");
    }

    fn read(&self) -> String {
        self.messages[READ].to_string()
    }

    fn next(&self, of: &AtomicUsize) -> String {
        self.messages[of.fetch_add(1, Ordering::Relaxed)].to_string()
    }

    async fn page(&self, page_token: String, kind: &str) -> pb::ListReactionsResponse {
        let kind = kind.to_owned();
        let request =
            pb::ListReactionsRequest { page_size: 5, page_token, kind, ..of(&self.read()) };
        let page = list(&self.rita, request).await.expect("a page").into_inner();
        assert_eq!(page.reactions.len(), 5);
        page
    }
}

type Work = parlance_db::testing::Work<World, Place>;

const WORK: &[(&str, Work)] = work! {
    "a page": |_, place| {
        let (room_id, page_size) = (place.name.clone(), 100);
        let request = pb::ListMessagesRequest { room_id, page_size, ..Default::default() };
        let page = place.rita.clone().messages.list_messages(request).await.expect("a page");
        let own = |message: &&pb::Message| message.reactions.iter().any(|it| it.own);
        assert_eq!(page.into_inner().messages.iter().filter(own).count(), MANY);
    },
    "GetMessage": |_, place| {
        let message = get(&mut place.rita.clone(), &place.read()).await;
        assert_eq!(message.reactions.len(), 20);
    },
    "ListPins": |_, place| {
        let mut pins = PinServiceClient::new(place.rita.transport.clone());
        pins.list_pins(pb::ListPinsRequest { room_id: place.name.clone() }).await.expect("pins")
    },
    "ListUserLogs": |world, place| {
        let user_id = format!("{}-rita", place.name);
        let request =
            pb::ListUserLogsRequest { user_id, skip_empty: true, ..Default::default() };
        world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list")
    },
    "ListReactions": |_, place| {
        let page = place.page(String::new(), "").await;
        place.page(page.next_page_token, "").await
    },
    "ListReactions of a kind": |_, place| place.page(String::new(), "kind 7").await,
    "ListReactions of a kind that is not there": |_, place| {
        let request =
            pb::ListReactionsRequest { kind: "none".to_owned(), ..of(&place.read()) };
        assert_eq!(listed(&place.rita, request).await, []);
    },
    "AddReaction and RemoveReaction": |_, place| {
        react(&place.rita, &place.read(), "tea").await;
        react(&place.rita, &place.read(), "tea").await;
        remove(&place.rita, &place.read(), "tea").await.expect("removed")
    },
    "AddReaction in the place of others": |_, place| {
        react(&place.ann, &place.read(), "tea").await;
        replace(&place.ann, &place.read(), "ale").await.expect("replaced")
    },
    "SendMessage": |_, place| send(&mut place.ann.clone(), &place.name, "hello").await,
    "DeleteMessage": |_, place| {
        delete(&mut place.ann.clone(), &place.next(&place.deleted)).await
    },
    "ClearHistoryForAll and what goes with it": |world, place| {
        let mut history = HistoryServiceClient::new(place.ann.transport.clone());
        let request = pb::ClearHistoryForAllRequest {
            room_id: place.name.clone(),
            through_message_id: place.next(&place.cleared),
            ..Default::default()
        };
        history.clear_history_for_all(request).await.expect("cleared");
        world.service.store().prune(ON_PRUNE).await.expect("pruned");
    },
};

async fn beside_reactions(db: Db) {
    let world = World::still(db, Config::default()).await;
    let mut places = Vec::new();
    for (name, size) in [("small", SIZES[0]), ("large", SIZES[1])] {
        places.push(Place::new(&world, name, size).await);
    }
    costs_the_same(world.service.store().db(), &world, &places, WORK).await;
}
