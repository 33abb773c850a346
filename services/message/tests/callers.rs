//! What holds for every public RPC, whoever calls.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parlance_db::{Db, Tx, test_on_each_db};
use parlance_message::Config;
use parlance_message::LogOptions as Options;
use parlance_proto::message::v1::{
    DeleteMessageRequest, GetMessageRequest, GetUnreadRequest, ListMessagesRequest,
    ListReceiptsRequest, MarkAllReadRequest, MarkDeliveredRequest, MarkReadRequest,
    MarkUnreadRequest, RecountUnreadRequest, SendMessageRequest,
};
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use tokio::time::Instant;
use tonic::{Response, Status};
use tonic_types::StatusExt;

use crate::harness::{Client, TENANT, World, caller, editing, refused, saying, send};
use crate::rooms::group;

test_on_each_db!(parlance_message::MIGRATIONS =>
    without_a_token_nothing_is_answered,
    internal_tokens_are_for_internal_services,
    a_call_that_is_late_says_so,
    a_call_that_waits_too_long_says_so,
    a_full_queue_is_refused_and_says_when_to_come_again,
    an_outage_is_unavailable_and_never_no,
    a_service_that_stops_says_so,
);

/// One good call of every RPC, with its name.
async fn every_call(
    client: &mut Client,
    message_id: &str,
) -> Vec<(&'static str, Result<(), Status>)> {
    let (room_id, message_id) = ("lobby".to_owned(), message_id.to_owned());
    let edit = editing(&message_id, "hello");
    let list = ListMessagesRequest { room_id: room_id.clone(), ..ListMessagesRequest::default() };
    let read = MarkReadRequest { room_id: room_id.clone(), seq: 3 };
    let delivered = MarkDeliveredRequest { room_id: room_id.clone(), seq: 3 };
    let receipts = ListReceiptsRequest { room_id: room_id.clone(), ..Default::default() };
    let all_read = MarkAllReadRequest { room_id: room_id.clone() };
    let get = GetMessageRequest { message_id: message_id.clone() };
    let unread = GetUnreadRequest::default();
    vec![
        ("send", client.messages.send_message(hello()).await.map(drop)),
        ("edit", client.messages.edit_message(edit).await.map(drop)),
        ("get", client.messages.get_message(get).await.map(drop)),
        ("list", client.messages.list_messages(list).await.map(drop)),
        ("mark read", client.marks.mark_read(read).await.map(drop)),
        ("mark delivered", client.marks.mark_delivered(delivered).await.map(drop)),
        ("mark all read", client.marks.mark_all_read(all_read).await.map(drop)),
        ("list receipts", client.marks.list_receipts(receipts).await.map(drop)),
        ("mark unread", client.marks.mark_unread(MarkUnreadRequest { room_id }).await.map(drop)),
        ("get unread", client.inbox.get_unread(unread).await.map(drop)),
        ("recount", client.inbox.recount_unread(RecountUnreadRequest {}).await.map(drop)),
        (
            "delete",
            client.messages.delete_message(DeleteMessageRequest { message_id }).await.map(drop),
        ),
    ]
}

/// A lobby of Ann with a message of hers, and the message's id.
async fn lobby(world: &World) -> String {
    group(world, "lobby", &["ann"]).await;
    send(&mut world.user("ann"), "lobby", "hello").await.message_id
}

fn ann() -> Principal {
    Principal::User(UserId::new("ann"))
}

async fn all_refused(client: &mut Client, message_id: &str, reason: Reason) -> Vec<Status> {
    let answers = every_call(client, message_id).await;
    answers.into_iter().map(|(_, answer)| refused(answer.map(Response::new), reason)).collect()
}

/// B-172, B-183, B-187.
async fn without_a_token_nothing_is_answered(db: Db) {
    let world = World::open(db).await;
    let id = lobby(&world).await;
    all_refused(&mut world.with(None, None), &id, Reason::TokenMissing).await;
    for (name, answer) in every_call(&mut world.user("ann"), &id).await {
        answer.unwrap_or_else(|status| panic!("{name}: {status:?}"));
    }
}

async fn internal_tokens_are_for_internal_services(db: Db) {
    let world = World::open(db).await;
    let id = lobby(&world).await;
    let internal = Principal::Internal(Some(UserId::new("ann")));
    all_refused(&mut world.client(TENANT, internal), &id, Reason::NotAllowed).await;
}

async fn a_call_that_is_late_says_so(db: Db) {
    let world = World::open(db).await;
    let id = lobby(&world).await;
    let mut late = world.with(Some(caller(TENANT, ann())), Some(Instant::now()));
    all_refused(&mut late, &id, Reason::DeadlineExceeded).await;
}

fn hello() -> SendMessageRequest {
    saying("lobby", "hello")
}

/// What nobody can write past until it is dropped.
pub(crate) async fn lock(db: &Db) -> Tx {
    let mut lock = db.begin().await.expect("begin");
    lock.query("UPDATE heads SET head = head").execute().await.expect("lock");
    lock
}

async fn a_call_that_waits_too_long_says_so(db: Db) {
    let world = World::open(db.clone()).await;
    lobby(&world).await;
    let soon = Instant::now() + Duration::from_millis(200);
    let mut late = world.with(Some(caller(TENANT, ann())), Some(soon));
    let lock = lock(&db).await;
    refused(late.messages.send_message(hello()).await, Reason::DeadlineExceeded);
    drop(lock);
}

/// B-191.
async fn a_full_queue_is_refused_and_says_when_to_come_again(db: Db) {
    let store = Options { writers: 1, queue: 1, batch: 1, ..Options::default() };
    let config = Config { store, ..Config::default() };
    let world = World::laid_out(db.clone(), config).await;
    lobby(&world).await;
    let mut ann = world.user("ann");

    // One is being written and one waits, at most.
    let mut sending: FuturesUnordered<_> = (0..4)
        .map(|_| {
            let mut ann = ann.clone();
            async move { ann.messages.send_message(hello()).await }
        })
        .collect();
    let lock = lock(&db).await;
    for _ in 0..2 {
        let result = sending.next().await.expect("four sends");
        let status = refused(result, Reason::Overloaded);
        let retry = status.get_details_retry_info().expect("a RetryInfo");
        assert!(retry.retry_delay.is_some());
        assert!(status.get_details_quota_failure().is_some());
    }
    drop(lock);

    let rest: Vec<_> = sending.collect().await;
    assert!(rest.iter().any(Result::is_ok));
    ann.messages.send_message(hello()).await.expect("send");
}

async fn an_outage_is_unavailable_and_never_no(db: Db) {
    let world = World::open(db.clone()).await;
    let id = lobby(&world).await;
    db.close().await;
    let mut client = world.user("ann");
    for (name, answer) in every_call(&mut client, &id).await {
        // The writers have connections of their own.
        if matches!(name, "send" | "edit" | "delete") {
            continue;
        }
        let status = refused(answer.map(Response::new), Reason::StoreUnavailable);
        assert!(status.get_details_retry_info().is_some(), "{name}");
    }
}

async fn a_service_that_stops_says_so(db: Db) {
    let world = World::open(db).await;
    let id = lobby(&world).await;
    world.service.close().await;
    for (name, answer) in every_call(&mut world.user("ann"), &id).await {
        if matches!(name, "send" | "edit" | "delete") {
            let status = refused(answer.map(Response::new), Reason::Draining);
            assert!(status.get_details_retry_info().is_some(), "{name}");
        }
    }
}
