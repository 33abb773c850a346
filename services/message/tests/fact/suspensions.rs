//! Users who are kept out of everything.

use futures::future::join_all;
use parlance_db::{Db, Tx, test_on_each_db, testing};
use parlance_log::FOR_EVER;
use parlance_message::{Error, MIGRATIONS};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::hide_service_client::HideServiceClient;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_rpc::Reason;
use parlance_rpc::testing::eventually;
use parlance_types::{LogId, Micros, Seq};
use tokio::sync::Notify;
use tonic_types::StatusExt as _;

use crate::harness::{Client, TENANT, World, editing, get, refused, saying, send, unread};
use crate::reaction::reactions;
use crate::rooms::{Own, group, plan};
use crate::stream::harness::{Reader, all_rooms, latest};
use crate::world::{World as Logs, draft, reopen};

test_on_each_db!(parlance_message::MIGRATIONS =>
    who_is_suspended_is_refused_everything_and_stays_a_member,
    a_suspension_ends_by_itself_and_is_lifted,
    whoever_is_let_in_while_suspended_is_suspended_there,
    streams_of_who_is_suspended_end,
    what_one_call_did_not_come_to_is_finished_later,
    nothing_is_accepted_after_a_suspension,
);

const SECOND: Micros = 1_000_000;

/// Every call of a user's about the lobby, in which a message is theirs, is refused.
async fn everything_is_refused(world: &World, mut user: Client, message_id: &str) {
    let (room_id, message_id) = ("lobby".to_owned(), message_id.to_owned());
    let told = refused(user.messages.send_message(saying("lobby", "x")).await, Reason::Suspended);
    let info = told.get_details_error_info().expect("error info");
    assert_eq!(info.metadata["until"], "1970-01-01T00:01:00Z");
    refused(user.messages.edit_message(editing(&message_id, "x")).await, Reason::Suspended);
    let delete = pb::DeleteMessageRequest { message_id: message_id.clone() };
    refused(user.messages.delete_message(delete).await, Reason::Suspended);
    let get = pb::GetMessageRequest { message_id: message_id.clone() };
    refused(user.messages.get_message(get).await, Reason::Suspended);
    let list = pb::ListMessagesRequest { room_id: room_id.clone(), ..Default::default() };
    refused(user.messages.list_messages(list).await, Reason::Suspended);

    let mark = pb::MarkReadRequest { room_id: room_id.clone(), seq: 1 };
    refused(user.marks.mark_read(mark).await, Reason::Suspended);
    let mark = pb::MarkDeliveredRequest { room_id: room_id.clone(), seq: 1 };
    refused(user.marks.mark_delivered(mark).await, Reason::Suspended);
    let mark = pb::MarkAllReadRequest { room_id: room_id.clone() };
    refused(user.marks.mark_all_read(mark).await, Reason::Suspended);
    let mark = pb::MarkUnreadRequest { room_id: room_id.clone() };
    refused(user.marks.mark_unread(mark).await, Reason::Suspended);
    let list = pb::ListReceiptsRequest { room_id: room_id.clone(), ..Default::default() };
    refused(user.marks.list_receipts(list).await, Reason::Suspended);

    let unread = pb::GetUnreadRequest::default();
    refused(user.inbox.get_unread(unread).await, Reason::Suspended);
    refused(user.inbox.recount_unread(pb::RecountUnreadRequest {}).await, Reason::Suspended);
    let mut hide = HideServiceClient::new(user.transport.clone());
    let request = pb::HideRoomRequest { room_id: room_id.clone() };
    refused(hide.hide_room(request).await, Reason::Suspended);
    let request = pb::HideMessagesRequest { message_ids: vec![message_id.clone()] };
    refused(hide.hide_messages(request).await, Reason::Suspended);
    let mut history = HistoryServiceClient::new(user.transport.clone());
    let clear = pb::ClearHistoryRequest { room_id: room_id.clone(), ..Default::default() };
    refused(history.clear_history(clear).await, Reason::Suspended);
    let clear = pb::ClearHistoryForAllRequest { room_id: room_id.clone(), ..Default::default() };
    refused(history.clear_history_for_all(clear).await, Reason::Suspended);
    let mut pins = PinServiceClient::new(user.transport.clone());
    let request = pb::PinMessageRequest { message_id: message_id.clone() };
    refused(pins.pin_message(request).await, Reason::Suspended);
    refused(reactions::add(&user, &message_id, "tea").await, Reason::Suspended);
    refused(reactions::remove(&user, &message_id, "tea").await, Reason::Suspended);
    refused(reactions::list(&user, reactions::of(&message_id)).await, Reason::Suspended);
    let request = pb::ListPinsRequest { room_id: room_id.clone() };
    refused(pins.list_pins(request).await, Reason::Suspended);
    let mut streams = StreamServiceClient::new(user.transport.clone());
    refused(streams.subscribe(latest(&["lobby"])).await, Reason::Suspended);
    let all =
        streams.subscribe(all_rooms(pb::StreamStart::Latest)).await.expect("a stream").into_inner();
    ends(Reader::new(all)).await;

    let mut suite = world.internal(TENANT);
    let lists = pb::ListUserLogsRequest { user_id: "bob".to_owned(), ..Default::default() };
    refused(suite.user_logs.list_user_logs(lists).await, Reason::Suspended);
    let ids = pb::ListUserLogIdsRequest { user_id: "bob".to_owned(), ..Default::default() };
    refused(suite.user_logs.list_user_log_ids(ids).await, Reason::Suspended);
    let typing = pb::PublishNoticeRequest {
        room_id,
        user_id: "bob".to_owned(),
        notice: Some(Notice::Typing(pb::TypingNotice::default())),
    };
    refused(suite.notices.publish_notice(typing).await, Reason::Suspended);
}

async fn who_is_suspended_is_refused_everything_and_stays_a_member(db: Db) {
    let world = World::open(db).await;
    plan("lobby").owned(&["bob", "ann"]).make(&world).await;
    plan("open").owned(&["ann"]).allow_preview().make(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let own = send(&mut bob, "lobby", "mine").await;
    Own::of(&world, "bob").suspend(60 * SECOND).await;

    everything_is_refused(&world, world.user("bob"), &own.message_id).await;
    everything_is_refused(&world, world.service_for("bob"), &own.message_id).await;
    let preview =
        pb::ListMessagesRequest { room_id: "open".to_owned(), preview: true, ..Default::default() };
    refused(bob.messages.list_messages(preview).await, Reason::Suspended);

    // The others go on, and nothing that was refused is there.
    send(&mut ann, "lobby", "others write on").await;
    send(&mut world.backend(), "lobby", "so does the system").await;
    let list = pb::ListMessagesRequest { room_id: "lobby".to_owned(), ..Default::default() };
    let page = ann.messages.list_messages(list).await.expect("a page").into_inner();
    assert_eq!(page.messages.len(), 3);
}

async fn a_suspension_ends_by_itself_and_is_lifted(db: Db) {
    let world = World::open(db).await;
    plan("lobby").owned(&["ann", "bob"]).make(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let own = Own::of(&world, "bob");
    own.suspend(60 * SECOND).await;
    send(&mut ann, "lobby", "one").await;
    send(&mut ann, "lobby", "two").await;
    // It began at 1.5 s.
    world.clock.advance(60 * SECOND - SECOND - SECOND / 2 - 1);
    refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Suspended);
    world.clock.advance(1);
    assert_eq!(unread(&mut bob).await, 2);
    send(&mut bob, "lobby", "again").await;

    own.suspend(FOR_EVER).await;
    let told = refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Suspended);
    let info = told.get_details_error_info().expect("error info");
    assert!(!info.metadata.contains_key("until"), "{info:?}");
    own.suspend(0).await;
    send(&mut bob, "lobby", "reinstated").await;
}

async fn whoever_is_let_in_while_suspended_is_suspended_there(db: Db) {
    let world = World::open(db).await;
    let own = Own::of(&world, "bob");
    own.suspend(60 * SECOND).await;
    // By facts that were under way.
    let room = plan("lobby").owned(&["ann", "bob"]).make(&world).await;
    let mut bob = world.user("bob");
    refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Suspended);
    room.leave("bob").await;
    room.join("bob").await;
    refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Suspended);
    own.suspend(0).await;
    send(&mut bob, "lobby", "again").await;
    // Who comes in now is not held to what was said before.
    room.leave("bob").await;
    room.join("bob").await;
    send(&mut bob, "lobby", "again").await;
}

async fn streams_of_who_is_suspended_end(db: Db) {
    let world = World::open(db).await;
    plan("lobby").owned(&["ann", "bob"]).make(&world).await;
    let mut named = world.subscribe(world.user("bob"), latest(&["lobby"])).await;
    let mut all = world.subscribe(world.user("bob"), all_rooms(pb::StreamStart::Latest)).await;
    let mut others = world.subscribe(world.user("ann"), latest(&["lobby"])).await;
    for reader in [&mut named, &mut all, &mut others] {
        reader.all_caught_up(1).await;
    }
    Own::of(&world, "bob").suspend(60 * SECOND).await;
    ends(named).await;
    ends(all).await;
    let sent = send(&mut world.user("ann"), "lobby", "on").await;
    assert_eq!(others.event().await.seq, sent.seq);
}

/// A stream ends because its user is suspended.
async fn ends(mut reader: Reader) {
    loop {
        match reader.read().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end without a reason"),
            Err(status) => {
                refused(Err::<tonic::Response<()>, _>(status), Reason::Suspended);
                return;
            }
        }
    }
}

/// A process that dies between what a fact says and the rows of its user.
async fn what_one_call_did_not_come_to_is_finished_later(db: Db) {
    let world = World::open(db).await;
    for room in ["a", "b", "c"] {
        plan(room).owned(&["ann", "bob"]).make(&world).await;
    }
    Own::of(&world, "bob").suspend(0).await;
    let store = world.service.store();
    let say = "UPDATE user_heads SET said = said + 1, suspended_until = $1 WHERE user_id = 'bob'";
    store.db().write(say).bind(60 * SECOND).execute().await.expect("said");
    let mut bob = world.user("bob");
    send(&mut bob, "a", "it is not everywhere yet").await;
    store.spread().await.expect("finished");
    for room in ["a", "b", "c"] {
        refused(bob.messages.send_message(saying(room, "x")).await, Reason::Suspended);
    }
}

/// Eight sends are in flight at another replica while the suspension is applied.
async fn nothing_is_accepted_after_a_suspension(db: Db) {
    let other = reopen(&db).await;
    let (one, two) = (Logs::open(db).await, Logs::open(other).await);
    let (log_id, own) = (one.group("r", &["ann", "bob"]).await, Own::of(&one, "bob"));
    for _ in 0..10 {
        let accepts = Notify::new();
        let suspending = async {
            accepts.notified().await;
            own.suspend(60 * SECOND).await;
            one.head(log_id).await
        };
        let sends = join_all((0..8).map(|_| send_until_suspended(&two, log_id, &accepts)));
        let (head, accepted) = tokio::join!(suspending, sends);
        let late: Vec<_> = accepted.iter().flatten().filter(|seq| **seq > head).collect();
        assert!(late.is_empty(), "{late:?} after {head}");
        own.suspend(0).await;
    }
}

/// The places of what was accepted until a send was refused.
async fn send_until_suspended(world: &Logs, log_id: LogId, accepts: &Notify) -> Vec<Seq> {
    let mut accepted = Vec::new();
    loop {
        match world.append(draft(log_id, "bob", None, "x")).await {
            Ok(sent) => accepted.push(sent.message_id.seq),
            Err(Error::Suspended { until }) => {
                assert_eq!(until, 60 * SECOND);
                return accepted;
            }
            Err(error) => panic!("{error:?}"),
        }
        accepts.notify_one();
    }
}

/// A suspension that is being written, and is committed once a statement waits for it.
struct Suspending {
    db: Db,
    transaction: Tx,
}

impl Suspending {
    async fn begin(db: &Db, log_id: LogId) -> Self {
        let mut transaction = db.begin().await.expect("a transaction");
        let suspend = "UPDATE members SET suspended_until = $2
                        WHERE log_id = $1 AND user_id = 'bob'";
        let suspend = transaction.query(suspend).bind(log_id.0).bind(60 * SECOND);
        suspend.execute().await.expect("suspended");
        Self { db: db.clone(), transaction }
    }

    /// Does what is judged by what was before, and waits with a statement like this.
    async fn commit_once<T>(self, waiting: &str, work: impl Future<Output = T>) -> T {
        let suspended = async {
            eventually(|| async {
                let waits = "SELECT COUNT(*) FROM pg_stat_activity
                              WHERE wait_event = 'transactionid' AND query LIKE $1
                                AND pid IN (SELECT pid FROM pg_locks
                                             WHERE relation = 'members'::regclass)";
                let waits = self.db.read(waits).bind(waiting);
                waits.fetch_one::<(i64,)>().await.expect("a count").0 == 1
            })
            .await;
            self.transaction.commit().await.expect("committed");
        };
        tokio::join!(work, suspended).0
    }
}

/// A send that was judged before its sender was suspended, and is stored after: it waits for
/// the row that the suspension is writing.
#[tokio::test]
async fn a_send_that_was_judged_before_a_suspension_is_judged_again() {
    testing::on_postgres(MIGRATIONS, async |db: Db| {
        let logs = Logs::open(db.clone()).await;
        let log_id = logs.group("r", &["ann", "bob"]).await;
        let head = logs.head(log_id).await;
        let suspending = Suspending::begin(&db, log_id).await;
        let late = logs.send(log_id, "bob", "late", "x");
        let sent = suspending.commit_once("%append_messages%", late).await;
        assert!(matches!(sent, Err(Error::Suspended { .. })), "{sent:?}");
        assert_eq!(logs.head(log_id).await, head);
    })
    .await;
}

/// Every other change is judged by the row that it holds until it is stored.
#[tokio::test]
async fn a_change_beside_a_suspension_waits_for_it_and_is_refused() {
    testing::on_postgres(MIGRATIONS, async |db: Db| {
        let world = World::open(db.clone()).await;
        let log_id = group(&world, "lobby", &["ann", "bob"]).await.log_id;
        let mut bob = world.user("bob");
        let message_id = send(&mut bob, "lobby", "tea").await.message_id;
        let suspending = Suspending::begin(&db, log_id).await;
        let late = bob.messages.edit_message(editing(&message_id, "coffee"));
        let edited = suspending.commit_once("%UPDATE members SET role = role%", late).await;
        refused(edited, Reason::Suspended);
        let shown = get(&mut world.user("ann"), &message_id).await;
        assert_eq!(shown.content.expect("content").text, "tea");
    })
    .await;
}
