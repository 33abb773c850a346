//! Who writes to a broadcast, and what is not told in it.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_rpc::{Principal, Reason};

use super::contacts::{broadcast, places};
use crate::harness::{Client, TENANT, World, delete, edit, editing, refused, saying, send};
use crate::stream::harness::{latest, receipt};

test_on_each_db!(parlance_message::MIGRATIONS =>
    services_and_operators_write_and_users_read,
    a_user_is_refused_the_same_before_and_after_the_first_contact,
    nobody_is_told_how_far_others_have_read_or_who_types,
    what_was_cleared_for_all_is_gone_for_who_comes_later,
);

async fn page(client: &mut Client) -> Vec<pb::Message> {
    let request = pb::ListMessagesRequest { room_id: "news".to_owned(), ..Default::default() };
    client.messages.list_messages(request).await.expect("a page").into_inner().messages
}

/// B-005.
async fn services_and_operators_write_and_users_read(db: Db) {
    let world = World::open(db).await;
    broadcast(&world, "news").await;
    let mut operator = world.client(TENANT, Principal::Operator);
    for client in [&mut world.backend(), &mut operator] {
        let sent = send(client, "news", "hello").await.message_id;
        edit(client, &sent, "better").await;
        let gone = send(client, "news", "wrong").await.message_id;
        delete(client, &gone).await;
    }
    let read = page(&mut world.user("ann")).await;
    let read: Vec<_> = read.iter().map(|message| (&*message.sender_id, &message.content)).collect();
    assert_eq!(read.len(), 4);
    assert!(read.iter().all(|(sender, _)| sender.is_empty()));
    assert_eq!(read.iter().filter(|(_, content)| content.is_some()).count(), 2);
    let message_id = page(&mut operator).await[0].message_id.clone();
    let mut pins = PinServiceClient::new(operator.transport.clone());
    pins.pin_message(pb::PinMessageRequest { message_id }).await.expect("pinned");
    let mut pins = PinServiceClient::new(world.user("bob").transport);
    let list = pb::ListPinsRequest { room_id: "news".to_owned() };
    assert_eq!(pins.list_pins(list).await.expect("pins").into_inner().pins.len(), 1);
}

async fn a_user_is_refused_the_same_before_and_after_the_first_contact(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    let message_id = send(&mut world.backend(), "news", "hello").await.message_id;
    for _ in 0..2 {
        let mut writer = world.user("writer");
        let send = writer.messages.send_message(saying("news", "me too")).await;
        refused(send, Reason::PostingRestricted);
        let mut service = world.service_for("for a writer");
        let send = service.messages.send_message(saying("news", "me too")).await;
        refused(send, Reason::PostingRestricted);
        let edit = world.user("editor").messages.edit_message(editing(&message_id, "no")).await;
        refused(edit, Reason::NotTheSender);
        let delete = pb::DeleteMessageRequest { message_id: message_id.clone() };
        let delete = world.user("deleter").messages.delete_message(delete).await;
        refused(delete, Reason::NotTheSender);
        let mut pins = PinServiceClient::new(world.user("pinner").transport);
        let pin = pb::PinMessageRequest { message_id: message_id.clone() };
        refused(pins.pin_message(pin).await, Reason::NotAllowed);
        let mut history = HistoryServiceClient::new(world.user("clearer").transport);
        let room_id = "news".to_owned();
        let clear = pb::ClearHistoryForAllRequest { room_id, ..Default::default() };
        refused(history.clear_history_for_all(clear).await, Reason::NotAllowed);
    }
    assert_eq!(places(&world, room.log_id).await.len(), 6);
}

async fn nobody_is_told_how_far_others_have_read_or_who_types(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    let (ann, mut bob) = (world.user("ann"), world.user("bob"));
    let mut stream = world.subscribe(ann.clone(), latest(&["news"])).await;
    stream.live().await;
    let seq = send(&mut world.backend(), "news", "hello").await.seq;
    assert_eq!(stream.event().await.seq, seq);
    let mark = pb::MarkReadRequest { room_id: "news".to_owned(), seq };
    bob.marks.mark_read(mark).await.expect("marked");
    let lasts = Some(prost_types::Duration { seconds: 9, nanos: 0 });
    let typing = pb::PublishNoticeRequest {
        room_id: "news".to_owned(),
        user_id: "bob".to_owned(),
        notice: Some(pb::publish_notice_request::Notice::Typing(pb::TypingNotice { lasts })),
    };
    world.internal(TENANT).notices.publish_notice(typing).await.expect("checked");

    // The next one that is told is the first.
    world.service.hub().tell(room.log_id, receipt(&room, "eve", 1, 1));
    assert_eq!(stream.receipt().await, ("eve".to_owned(), 1, 1));
    assert!(stream.marks.is_empty(), "nor at the beginning");

    let list = pb::ListReceiptsRequest { room_id: "news".to_owned(), ..Default::default() };
    let receipts = bob.marks.list_receipts(list.clone()).await.expect("a page").into_inner();
    let receipts: Vec<_> = receipts.receipts.iter().map(|receipt| &*receipt.user_id).collect();
    assert_eq!(receipts, ["bob"]);
    let receipts = world.backend().marks.list_receipts(list).await.expect("a page").into_inner();
    let receipts: Vec<_> = receipts.receipts.iter().map(|receipt| &*receipt.user_id).collect();
    assert_eq!(receipts, ["ann", "bob"], "those who have called");
}

async fn what_was_cleared_for_all_is_gone_for_who_comes_later(db: Db) {
    let world = World::open(db).await;
    broadcast(&world, "news").await;
    let mut backend = world.backend();
    send(&mut backend, "news", "old").await;
    let mut history = HistoryServiceClient::new(backend.transport.clone());
    let clear = pb::ClearHistoryForAllRequest { room_id: "news".to_owned(), ..Default::default() };
    history.clear_history_for_all(clear).await.expect("cleared");
    let mut ann = world.user("ann");
    assert_eq!(page(&mut ann).await, []);
    send(&mut backend, "news", "new").await;
    assert_eq!(page(&mut ann).await.len(), 1);
    let request = pb::RecountUnreadRequest {};
    let recount = ann.inbox.recount_unread(request).await.expect("recounted").into_inner();
    assert_eq!((recount.total, recount.differences), (1, vec![]));
}
