//! What each RPC costs when what it stands beside grows a hundredfold.

use std::sync::atomic::{AtomicI64, Ordering};

use parlance_db::testing::{costs_the_same, stays_as_cheap};
use parlance_db::{AssertSqlSafe, Db, Query, rows, test_on_each_db, work};
use parlance_log::{Kind, codec, testing};
use parlance_message::ON_PRUNE;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::hide_service_client::HideServiceClient;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::list_messages_request::Position;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_rpc::Transport;
use parlance_types::{MessageId, Seq};
use uuid::Uuid;

use crate::harness::{Client, TENANT, World, delete, edit, get, saying, send, unread};
use crate::message::send_messages::send_messages;
use crate::rooms::{Own, Room, joined, plan};
use crate::stream::harness::latest;

test_on_each_db!(parlance_message::MIGRATIONS, crate::growth, on_own_postgres =>
    beside_messages,
    beside_events_that_are_no_messages,
    beside_deleted_messages,
    beside_edits_of_a_message,
    beside_pins_of_a_message,
    beside_members,
    beside_rooms_of_a_user,
    beside_closed_rooms,
    looking_for_closed_rooms_costs_no_more_beside_many,
);

/// How much of it there is, and a hundred times as much.
const SIZES: [i64; 2] = [100, 10_000];

/// A room with something in its midst: 60 messages, what grows, and 60 more.
struct Place {
    name: String,
    room: Room,
    /// Sends, edits, pins and deletes; reads, and says so; reads, and never says so.
    ann: Client,
    mia: Client,
    rita: Client,
    /// Reads, and has blocked somebody who wrote nothing.
    bea: Client,
    bea_says: Own,
    /// The messages before what grows.
    before: Vec<MessageId>,
    /// What is marked, deleted and pinned next: of those after what grows.
    next: AtomicI64,
    /// Which of the messages before what grows is cleared for all next.
    cleared: AtomicI64,
}

impl Place {
    async fn new(world: &World, name: &str) -> Self {
        let users = ["ann", "mia", "rita", "bea"].map(|user| format!("{name}-{user}"));
        let room = plan(name).owned(&users.each_ref().map(String::as_str)).make(world).await;
        let bea_says = Own::of(world, &users[3]);
        bea_says.block("zed", true).await;
        let [ann, mia, rita, bea] = users.map(|user| world.user(&user));
        let (before, name) = (Vec::new(), name.to_owned());
        let (next, cleared) = (AtomicI64::new(0), AtomicI64::new(2));
        let mut place = Self { name, room, ann, mia, rita, bea, bea_says, before, next, cleared };
        for _ in 0..60 {
            let seq = send(&mut place.ann.clone(), &place.name, "before").await.seq;
            place.before.push(MessageId { log_id: place.room.log_id, seq });
        }
        place
    }

    /// Ends the room after what grew.
    async fn close(&self) {
        let first = send(&mut self.ann.clone(), &self.name, "after").await.seq;
        self.next.store(first, Ordering::Relaxed);
        for _ in 1..60 {
            send(&mut self.ann.clone(), &self.name, "after").await;
        }
    }

    fn next(&self) -> MessageId {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        MessageId { log_id: self.room.log_id, seq }
    }

    fn pins(&self) -> PinServiceClient<Transport> {
        PinServiceClient::new(self.ann.transport.clone())
    }

    /// The room, and as many that Rita is not in as a request may name beside it.
    fn hundred(&self) -> Vec<String> {
        let nothing = (1..100).map(|nothing| format!("nothing {nothing}"));
        std::iter::once(self.name.clone()).chain(nothing).collect()
    }

    async fn page(&self, position: Option<Position>) -> pb::ListMessagesResponse {
        self.page_of(&self.rita, position).await
    }

    async fn page_of(
        &self,
        reader: &Client,
        position: Option<Position>,
    ) -> pb::ListMessagesResponse {
        let (room_id, page_size) = (self.name.clone(), 100);
        let request =
            pb::ListMessagesRequest { room_id, page_size, position, ..Default::default() };
        reader.clone().messages.list_messages(request).await.expect("a page").into_inner()
    }
}

type Work = parlance_db::testing::Work<World, Place>;

/// What is done in a room and to its messages, by those who are in no other.
const WORK: &[(&str, Work)] = work! {
    "the latest page": |_, place| assert_eq!(place.page(None).await.messages.len(), 100),
    "a page before": |_, place| {
        let next = place.next().seq;
        assert!(place.page(Some(Position::BeforeSeq(next))).await.messages.len() >= 60);
    },
    "the first page": |_, place| {
        assert_eq!(place.page(Some(Position::AfterSeq(0))).await.messages.len(), 100);
    },
    "a page around": |_, place| {
        let seq = place.before[50].seq;
        assert_eq!(place.page(Some(Position::AroundSeq(seq))).await.messages.len(), 100);
    },
    "the latest page of who has blocked somebody": |_, place| {
        assert_eq!(place.page_of(&place.bea, None).await.messages.len(), 100);
    },
    "a block and its end": |_, place| {
        place.bea_says.block("yan", true).await;
        place.bea_says.block("yan", false).await
    },
    "GetMessage": |_, place| get(&mut place.rita.clone(), &place.before[1].to_string()).await,
    "GetUnread": |_, place| unread(&mut place.rita.clone()).await,
    "GetUnread of who has blocked somebody": |_, place| unread(&mut place.bea.clone()).await,
    "GetUnread of some rooms": |_, place| {
        let request = pb::GetUnreadRequest { room_ids: place.hundred(), these_only: true };
        place.rita.clone().inbox.get_unread(request).await.expect("unread")
    },
    "ListUserLogs": |world, place| {
        let user_id = format!("{}-rita", place.name);
        let request =
            pb::ListUserLogsRequest { user_id, skip_empty: true, ..Default::default() };
        world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list")
    },
    "ListUserLogs with a filter": |world, place| {
        let filter = pb::UserLogFilter { unread_only: true, ..Default::default() };
        let request = pb::ListUserLogsRequest {
            user_id: format!("{}-rita", place.name),
            filter: Some(filter),
            order: pb::UserLogOrder::Creation.into(),
            ..Default::default()
        };
        world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list")
    },
    "ListUserLogs of some logs": |world, place| {
        let request = pb::ListUserLogsRequest {
            user_id: format!("{}-rita", place.name),
            log_ids: vec![place.before[0].log_id.to_string()],
            ..Default::default()
        };
        world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list")
    },
    "ListUserLogIds": |world, place| {
        let user_id = format!("{}-rita", place.name);
        let request = pb::ListUserLogIdsRequest { user_id, ..Default::default() };
        world.internal(TENANT).user_logs.list_user_log_ids(request).await.expect("ids")
    },
    "ListPins": |_, place| {
        let request = pb::ListPinsRequest { room_id: place.name.clone() };
        place.pins().list_pins(request).await.expect("pins")
    },
    "Subscribe": |world, place| {
        let stream = world.subscribe(place.rita.clone(), latest(&[&place.name]));
        stream.await.all_caught_up(1).await;
    },
    "SendMessage": |_, place| send(&mut place.ann.clone(), &place.name, "hello").await,
    "SendMessage again": |_, place| {
        let request_id = "again".to_owned();
        let request = pb::SendMessageRequest { request_id, ..saying(&place.name, "hello") };
        place.ann.clone().messages.send_message(request).await.expect("a reply")
    },
    "SendMessages": |_, place| {
        let request_id = Uuid::now_v7().to_string();
        let message = pb::SendMessageRequest { request_id, ..saying(&place.name, "hello") };
        send_messages(&mut place.ann.clone(), vec![message]).await
    },
    "EditMessage": |_, place| {
        edit(&mut place.ann.clone(), &place.before[0].to_string(), "better").await
    },
    "DeleteMessage": |_, place| {
        delete(&mut place.ann.clone(), &place.next().to_string()).await
    },
    "MarkRead": |_, place| {
        let (room_id, seq) = (place.name.clone(), place.next().seq);
        place.mia.clone().marks.mark_read(pb::MarkReadRequest { room_id, seq }).await.expect("ok")
    },
    "MarkDelivered": |_, place| {
        let (room_id, seq) = (place.name.clone(), place.next().seq);
        let request = pb::MarkDeliveredRequest { room_id, seq };
        place.mia.clone().marks.mark_delivered(request).await.expect("marked")
    },
    "MarkUnread": |_, place| {
        let request = pb::MarkUnreadRequest { room_id: place.name.clone() };
        place.mia.clone().marks.mark_unread(request).await.expect("marked")
    },
    "HideRoom": |_, place| {
        let mut hide = HideServiceClient::new(place.mia.transport.clone());
        let request = pb::HideRoomRequest { room_id: place.name.clone() };
        hide.hide_room(request).await.expect("hidden")
    },
    "ClearHistory": |_, place| {
        let mut history = HistoryServiceClient::new(place.mia.transport.clone());
        let through_message_id = place.next().to_string();
        let request = pb::ClearHistoryRequest { room_id: place.name.clone(), through_message_id };
        history.clear_history(request).await.expect("cleared")
    },
    "ListReceipts": |_, place| {
        let request = pb::ListReceiptsRequest { room_id: place.name.clone(), ..Default::default() };
        let page = place.rita.clone().marks.list_receipts(request).await.expect("a page");
        assert!(!page.into_inner().receipts.is_empty());
    },
    "PinMessage and UnpinMessage": |_, place| {
        let message_id = place.next().to_string();
        let pin = pb::PinMessageRequest { message_id: message_id.clone() };
        place.pins().pin_message(pin).await.expect("pinned");
        place.pins().unpin_message(pb::UnpinMessageRequest { message_id }).await.expect("unpinned")
    },
    "ApplyFacts": |_, place| {
        place.room.join("zoe").await;
        place.room.leave("zoe").await
    },
    "MarkAllRead": |_, place| {
        let request = pb::MarkAllReadRequest { room_id: place.name.clone() };
        place.mia.clone().marks.mark_all_read(request).await.expect("marked")
    },
    "ClearHistoryForAll and what goes with it": |world, place| {
        let mut history = HistoryServiceClient::new(place.ann.transport.clone());
        let at = usize::try_from(place.cleared.fetch_add(10, Ordering::Relaxed)).expect("few");
        let request = pb::ClearHistoryForAllRequest {
            room_id: place.name.clone(),
            through_message_id: place.before[at].to_string(),
            ..Default::default()
        };
        history.clear_history_for_all(request).await.expect("cleared");
        world.service.store().prune(ON_PRUNE).await.expect("pruned");
    },
};

/// Does everything in a room with a hundred of what `grow` makes, and in one with ten
/// thousand; fails where that costs more.
async fn compare(db: Db, sizes: [i64; 2], grow: impl AsyncFn(&Growing<'_>, i64)) {
    compare_in(db, sizes, WORK, grow).await;
}

async fn compare_in(
    db: Db,
    sizes: [i64; 2],
    work: &[(&str, Work)],
    grow: impl AsyncFn(&Growing<'_>, i64),
) {
    let world = World::open(db).await;
    let mut places = Vec::new();
    for (name, size) in [("small", sizes[0]), ("large", sizes[1])] {
        let place = Place::new(&world, name).await;
        grow(&Growing { db: world.service.store().db(), place: &place }, size).await;
        place.close().await;
        places.push(place);
    }
    costs_the_same(world.service.store().db(), &world, &places, work).await;
}

/// A room that is being filled, faster than by requests.
struct Growing<'a> {
    db: &'a Db,
    place: &'a Place,
}

impl Growing<'_> {
    /// Puts events at the end of the log, as if Ann had made them with request ids.
    async fn events(&self, count: i64, kind: Kind, target: Option<Seq>, payload: &[u8]) {
        let counted = kind == Kind::Message;
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, counted,
                                target_seq, payload)
            SELECT h.log_id, h.head + n.i, h.head_time, h.ord + n.i * $3, $4, $5,
                   'of old ' || CAST(h.head + n.i AS TEXT), $6, $7, $8
              FROM n, heads h WHERE h.log_id = $1";
        let insert = self.write(insert).bind(count).bind(i64::from(counted)).bind(kind.number());
        let insert = insert.bind(format!("{}-ann", self.place.name)).bind(counted);
        insert.bind(target).bind(payload).execute().await.expect("filled");
        let update = "UPDATE heads SET head = head + $2, ord = ord + $3 WHERE log_id = $1";
        let counted = if counted { count } else { 0 };
        self.write(update).bind(count).bind(counted).execute().await.expect("moved");
    }

    async fn members(&self, count: i64) {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO members (log_id, user_id, tenant_id, role, joined_seq, joined_time,
                                 read_seq, read_ord, delivered_seq, marked_unread)
            SELECT $1, 'member ' || CAST(n.i AS TEXT), $3, 1, 1, 1, 1, 0, 1, FALSE FROM n";
        let insert = self.write(insert).bind(count).bind(TENANT);
        insert.execute().await.expect("joined");
    }

    /// Makes rooms that Rita is in; or that were closed, and let go of their members.
    async fn rooms(&self, count: i64, closed: Option<Seq>) {
        let user = format!("{}-rita", self.place.name);
        let logs: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        for logs in logs.chunks(500) {
            let heads = rows(
                4,
                logs.len(),
                "($+, $1, $+, 2, 3, 1, 0, 1, 1, 0, 1, $2, FALSE, 1,
                                              FALSE, 1, $3, 1, 0)",
            );
            let heads = format!(
                "INSERT INTO heads (log_id, tenant_id, room_id, kind, head, head_time, ord,
                                    first_seq, first_ord, deleted, message_time, closed_seq,
                                    peopled, post_rule, allow_preview, history, epoch,
                                    applied_membership, applied_room)
                 VALUES {heads}"
            );
            let heads = self.db.write(AssertSqlSafe(heads)).once();
            let mut heads = heads.bind(TENANT).bind(closed).bind(1_i64);
            for log_id in logs {
                heads = heads.bind(*log_id).bind(log_id.to_string());
            }
            heads.execute().await.expect("rooms");
            if closed.is_some() {
                continue;
            }
            let members = rows(3, logs.len(), "($+, $1, $2, 1, 2, 1, 2, 0, 2, FALSE)");
            let members = format!(
                "INSERT INTO members (log_id, user_id, tenant_id, role, joined_seq, joined_time,
                                      read_seq, read_ord, delivered_seq, marked_unread)
                 VALUES {members}"
            );
            let members = self.db.write(AssertSqlSafe(members)).once();
            let mut members = members.bind(&user).bind(TENANT);
            for log_id in logs {
                members = members.bind(*log_id);
            }
            members.execute().await.expect("members");
        }
    }

    fn write(&self, sql: &'static str) -> Query<'_> {
        self.db.write(sql).bind(self.place.room.log_id.0)
    }
}

async fn beside_messages(db: Db) {
    compare(db, SIZES, async |growing: &Growing<'_>, size| {
        growing.events(size, Kind::Message, None, &testing::sent(None, "hello")).await;
    })
    .await;
}

async fn beside_events_that_are_no_messages(db: Db) {
    compare(db, SIZES, async |growing: &Growing<'_>, size| {
        growing.events(size, Kind::Fact, None, &joined(Vec::new())).await;
    })
    .await;
}

async fn beside_deleted_messages(db: Db) {
    compare(db, SIZES, async |growing: &Growing<'_>, size| {
        let payload = codec::tombstone(&testing::sent(None, "hello")).expect("a tombstone");
        growing.events(size, Kind::Message, None, &payload).await;
        let delete = "UPDATE events SET deleted_seq = seq
                      WHERE log_id = $1 AND request_id LIKE 'of old %'";
        growing.write(delete).execute().await.expect("deleted");
        let count = "
            INSERT INTO gone (log_id, level, bucket, count)
            SELECT e.log_id, l.n, e.ord >> (5 * l.n), COUNT(*)
              FROM events e, (SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL
                              SELECT 3 UNION ALL SELECT 4) l
             WHERE e.log_id = $1 AND e.deleted_seq IS NOT NULL
             GROUP BY e.log_id, l.n, e.ord >> (5 * l.n)";
        growing.write(count).execute().await.expect("counted");
        let update = "UPDATE heads SET deleted = $2 WHERE log_id = $1";
        growing.write(update).bind(size).execute().await.expect("counted");
    })
    .await;
}

async fn beside_edits_of_a_message(db: Db) {
    compare(db, [10, 1000], async |growing: &Growing<'_>, size| {
        let target = growing.place.before[1];
        growing.events(size, Kind::Edit, Some(target.seq), &testing::edited(target, "x")).await;
        let update = "UPDATE events SET edits = $3,
                             content_seq = (SELECT head FROM heads WHERE log_id = $1)
                       WHERE log_id = $1 AND seq = $2";
        let edits = i16::try_from(size).expect("few");
        growing.write(update).bind(target.seq).bind(edits).execute().await.expect("edited");
    })
    .await;
}

async fn beside_pins_of_a_message(db: Db) {
    compare(db, SIZES, async |growing: &Growing<'_>, size| {
        let target = growing.place.before[1].seq;
        growing.events(size, Kind::Pin, Some(target), &joined(Vec::new())).await;
    })
    .await;
}

async fn beside_members(db: Db) {
    compare(db, SIZES, async |growing: &Growing<'_>, size| growing.members(size).await).await;
}

/// What tells of all rooms of a user, or of the latest of them, looks at each.
async fn beside_rooms_of_a_user(db: Db) {
    let of_all = ["GetUnread", "ListUserLogs", "ListUserLogs with a filter", "ListUserLogIds"];
    let work: Vec<_> = WORK.iter().filter(|(what, _)| !of_all.contains(what)).copied().collect();
    compare_in(db, SIZES, &work, async |growing: &Growing<'_>, size| {
        growing.rooms(size, None).await;
    })
    .await;
}

async fn beside_closed_rooms(db: Db) {
    compare(db, SIZES, async |growing: &Growing<'_>, size| {
        growing.rooms(size, Some(3)).await;
    })
    .await;
}

/// What every replica does every few seconds, whether or not there is a room to let go of.
async fn looking_for_closed_rooms_costs_no_more_beside_many(db: Db) {
    let world = World::open(db.clone()).await;
    let place = Place::new(&world, "a").await;
    let growing = Growing { db: &db, place: &place };
    let look = async || world.service.store().empty_closed().await.expect("looked");
    let grow = async |size| {
        growing.rooms(size, Some(3)).await;
        growing.rooms(size, None).await;
    };
    stays_as_cheap(&db, look, grow, SIZES).await;
}
