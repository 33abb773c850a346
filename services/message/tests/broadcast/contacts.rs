//! First contacts: how a user comes to have a place in a broadcast.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::hide_service_client::HideServiceClient;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::{self as pb, RoomKind};
use parlance_rpc::{Principal, Reason};
use parlance_types::{LogId, Seq, UserId};
use tonic::Status;

use crate::harness::{Client, TENANT, World, refused, send, unread};
use crate::reaction::reactions;
use crate::rooms::{Room, group, plan};
use crate::stream::harness::{all_rooms, latest};

test_on_each_db!(parlance_message::MIGRATIONS =>
    what_was_written_before_the_first_contact_is_read,
    every_call_is_a_first_contact,
    two_first_contacts_at_once_make_one_place,
    a_service_that_acts_for_a_user_makes_the_users_contact,
    a_member_hides_clears_and_marks_a_broadcast_as_any_room,
    other_tenants_have_no_contact,
    a_contact_is_of_one_life_of_the_room,
    a_contact_beside_the_deletion_leaves_nothing_behind,
    a_log_that_was_purged_has_no_contacts,
);

/// A broadcast of acme. Its first message will have seq 3.
pub(super) async fn broadcast(world: &impl AsRef<parlance_log::Store>, room_id: &str) -> Room {
    plan(room_id).kind(RoomKind::Broadcast).admins_post().make(world).await
}

/// The places that members have in a log: who, since when, and up to where they have read.
pub(super) async fn places(world: &World, log_id: LogId) -> Vec<(String, Seq, Seq)> {
    let select = "SELECT user_id, joined_seq, read_seq FROM members
                  WHERE log_id = $1 ORDER BY user_id";
    let select = world.service.store().db().read(select).bind(log_id.0);
    select.fetch_all().await.expect("places")
}

pub(super) fn place(user: &str, read: Seq) -> (String, Seq, Seq) {
    (user.to_owned(), 1, read)
}

async fn listed(world: &World, user: &str) -> Vec<pb::UserLog> {
    let request = pb::ListUserLogsRequest { user_id: user.to_owned(), ..Default::default() };
    let page = world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list");
    page.into_inner().logs
}

async fn of_news(client: &mut Client) -> pb::RoomUnread {
    let request = pb::GetUnreadRequest { room_ids: vec!["news".to_owned()], ..Default::default() };
    client.inbox.get_unread(request).await.expect("unread").into_inner().rooms.remove(0)
}

/// B-005.
async fn what_was_written_before_the_first_contact_is_read(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    let mut backend = world.backend();
    send(&mut backend, "news", "one").await;
    assert!(places(&world, room.log_id).await.is_empty());

    let logs = listed(&world, "ann").await;
    let [log] = &logs[..] else { panic!("one room, not {logs:?}") };
    assert_eq!((log.room_id.as_str(), log.unread, log.read_seq), ("news", 0, 3));
    assert_eq!(log.role(), pb::MemberRole::Member);
    assert!(log.last_message.is_some(), "the past is shown");
    send(&mut backend, "news", "two").await;
    assert_eq!(listed(&world, "ann").await[0].unread, 1);

    let seen = of_news(&mut world.user("bob")).await;
    assert_eq!((seen.unread, seen.read_seq), (0, 4));
    send(&mut backend, "news", "three").await;
    let both = [of_news(&mut world.user("ann")).await, of_news(&mut world.user("bob")).await];
    assert_eq!(both.map(|seen| seen.unread), [2, 1]);
    let mut ann = world.user("ann");
    let recount = ann.inbox.recount_unread(pb::RecountUnreadRequest {});
    let recounted = recount.await.expect("recounted").into_inner();
    assert_eq!((recounted.total, recounted.differences), (2, vec![]));
    assert_eq!(places(&world, room.log_id).await, [place("ann", 3), place("bob", 4)]);
    let head = world.service.store().view(room.log_id, None).await.expect("a view");
    assert_eq!(head.expect("a log").head, 5, "a contact is no event");
}

pub(super) type Call =
    for<'a> fn(
        &'a World,
        &'a str,
        &'a str,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>>;

/// What a user may do to whom the broadcast "news" is new, whose last message is named.
macro_rules! calls {
    ($($what:literal: |$world:pat_param, $user:pat_param, $message:pat_param| $call:expr,)+) => {
        &[$(($what, |$world, $user, $message| Box::pin(async move { $call.map(drop) }))),+]
    };
}

pub(super) const CALLS: &[(&str, Call)] = calls! {
    "GetUnread": |world, user, _| {
        world.user(user).inbox.get_unread(pb::GetUnreadRequest::default()).await
    },
    "GetUnread of these only": |world, user, _| {
        let request = pb::GetUnreadRequest { room_ids: vec!["news".to_owned()], these_only: true };
        world.user(user).inbox.get_unread(request).await
    },
    "RecountUnread": |world, user, _| {
        world.user(user).inbox.recount_unread(pb::RecountUnreadRequest {}).await
    },
    "ListUserLogs": |world, user, _| {
        let request = pb::ListUserLogsRequest { user_id: user.to_owned(), ..Default::default() };
        world.internal(TENANT).user_logs.list_user_logs(request).await
    },
    "ListUserLogs by creation": |world, user, _| {
        let order = pb::UserLogOrder::Creation.into();
        let user_id = user.to_owned();
        let request = pb::ListUserLogsRequest { user_id, order, ..Default::default() };
        world.internal(TENANT).user_logs.list_user_logs(request).await
    },
    "ListUserLogIds": |world, user, _| {
        let request = pb::ListUserLogIdsRequest { user_id: user.to_owned(), ..Default::default() };
        world.internal(TENANT).user_logs.list_user_log_ids(request).await
    },
    "ListMessages": |world, user, _| {
        let request = pb::ListMessagesRequest { room_id: "news".to_owned(), ..Default::default() };
        world.user(user).messages.list_messages(request).await
    },
    "ListMessages as a preview": |world, user, _| {
        let (room_id, preview) = ("news".to_owned(), true);
        let request = pb::ListMessagesRequest { room_id, preview, ..Default::default() };
        world.user(user).messages.list_messages(request).await
    },
    "GetMessage": |world, user, message| {
        let request = pb::GetMessageRequest { message_id: message.to_owned() };
        world.user(user).messages.get_message(request).await
    },
    "MarkRead": |world, user, _| {
        let request = pb::MarkReadRequest { room_id: "news".to_owned(), seq: 1 };
        world.user(user).marks.mark_read(request).await
    },
    "MarkDelivered": |world, user, _| {
        let request = pb::MarkDeliveredRequest { room_id: "news".to_owned(), seq: 1 };
        world.user(user).marks.mark_delivered(request).await
    },
    "MarkAllRead": |world, user, _| {
        let request = pb::MarkAllReadRequest { room_id: "news".to_owned() };
        world.user(user).marks.mark_all_read(request).await
    },
    "MarkUnread": |world, user, _| {
        let request = pb::MarkUnreadRequest { room_id: "news".to_owned() };
        world.user(user).marks.mark_unread(request).await
    },
    "ListReceipts": |world, user, _| {
        let request = pb::ListReceiptsRequest { room_id: "news".to_owned(), ..Default::default() };
        world.user(user).marks.list_receipts(request).await
    },
    "ListPins": |world, user, _| {
        let mut pins = PinServiceClient::new(world.user(user).transport);
        pins.list_pins(pb::ListPinsRequest { room_id: "news".to_owned() }).await
    },
    "RemoveReaction": |world, user, message| {
        reactions::remove(&world.user(user), message, "tea").await
    },
    "ListReactions": |world, user, message| {
        reactions::list(&world.user(user), reactions::of(message)).await
    },
    "HideRoom": |world, user, _| {
        let mut hide = HideServiceClient::new(world.user(user).transport);
        hide.hide_room(pb::HideRoomRequest { room_id: "news".to_owned() }).await
    },
    "HideMessages": |world, user, message| {
        let mut hide = HideServiceClient::new(world.user(user).transport);
        let request = pb::HideMessagesRequest { message_ids: vec![message.to_owned()] };
        hide.hide_messages(request).await
    },
    "ClearHistory": |world, user, _| {
        let mut history = HistoryServiceClient::new(world.user(user).transport);
        let request = pb::ClearHistoryRequest { room_id: "news".to_owned(), ..Default::default() };
        history.clear_history(request).await
    },
    "Subscribe": |world, user, _| {
        let mut stream = world.subscribe(world.user(user), latest(&["news"])).await;
        stream.all_caught_up(1).await;
        Ok::<_, Status>(())
    },
    "Subscribe to all rooms": |world, user, _| {
        let all = all_rooms(pb::StreamStart::Latest);
        let mut stream = world.subscribe(world.user(user), all).await;
        stream.all_caught_up(1).await;
        Ok::<_, Status>(())
    },
    "PublishNotice": |world, user, _| {
        let lasts = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        let notice = pb::publish_notice_request::Notice::Typing(pb::TypingNotice { lasts });
        let request = pb::PublishNoticeRequest {
            room_id: "news".to_owned(),
            user_id: user.to_owned(),
            notice: Some(notice),
        };
        world.internal(TENANT).notices.publish_notice(request).await
    },
};

async fn every_call_is_a_first_contact(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    let message = send(&mut world.backend(), "news", "one").await.message_id;
    for (what, call) in CALLS {
        call(&world, what, &message).await.expect(what);
        call(&world, what, &message).await.expect(what);
    }
    let mut all: Vec<_> = CALLS.iter().map(|(what, _)| place(what, 3)).collect();
    all.sort();
    assert_eq!(places(&world, room.log_id).await, all);
    send(&mut world.backend(), "news", "two").await;
    for (what, _) in CALLS {
        assert_eq!(unread(&mut world.user(what)).await, 1, "{what}");
    }
}

async fn two_first_contacts_at_once_make_one_place(db: Db) {
    let world = World::open(db).await;
    let rooms = [broadcast(&world, "news").await, broadcast(&world, "more").await];
    let calls = CALLS.iter().map(|(_, call)| async {
        // A call about one message finds none here.
        drop(call(&world, "ann", "00000000000000000000000000000009-3").await);
    });
    futures::future::join_all(calls).await;
    for room in rooms {
        assert_eq!(places(&world, room.log_id).await, [place("ann", 2)]);
    }
}

async fn a_service_that_acts_for_a_user_makes_the_users_contact(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    // Nobody has no place, whatever is read.
    let mut backend = world.backend();
    send(&mut backend, "news", "one").await;
    let list = pb::ListMessagesRequest { room_id: "news".to_owned(), ..Default::default() };
    backend.messages.list_messages(list).await.expect("a page");
    assert!(places(&world, room.log_id).await.is_empty());

    assert_eq!(unread(&mut world.service_for("ann")).await, 0);
    send(&mut backend, "news", "two").await;
    assert_eq!(unread(&mut world.user("ann")).await, 1);
    assert_eq!(places(&world, room.log_id).await, [place("ann", 3)]);
}

async fn a_member_hides_clears_and_marks_a_broadcast_as_any_room(db: Db) {
    let world = World::open(db).await;
    broadcast(&world, "news").await;
    let (mut ann, mut backend) = (world.user("ann"), world.backend());
    send(&mut backend, "news", "one").await;
    let mut hide = HideServiceClient::new(ann.transport.clone());
    hide.hide_room(pb::HideRoomRequest { room_id: "news".to_owned() }).await.expect("hidden");
    assert!(listed(&world, "ann").await.is_empty());
    send(&mut backend, "news", "two").await;
    assert_eq!(listed(&world, "ann").await.len(), 1);

    let mut history = HistoryServiceClient::new(ann.transport.clone());
    let clear = pb::ClearHistoryRequest { room_id: "news".to_owned(), ..Default::default() };
    history.clear_history(clear).await.expect("cleared");
    assert_eq!(of_news(&mut ann).await.unread, 0);
    let list = pb::ListMessagesRequest { room_id: "news".to_owned(), ..Default::default() };
    let page = ann.messages.list_messages(list.clone()).await.expect("a page").into_inner();
    assert!(page.messages.is_empty());
    let page = world.user("bob").messages.list_messages(list).await.expect("a page").into_inner();
    assert_eq!(page.messages.len(), 2);

    let seq = send(&mut backend, "news", "three").await.seq;
    let mark = pb::MarkReadRequest { room_id: "news".to_owned(), seq };
    assert_eq!(ann.marks.mark_read(mark).await.expect("marked").into_inner().read_seq, seq);
    let flag = pb::MarkUnreadRequest { room_id: "news".to_owned() };
    ann.marks.mark_unread(flag).await.expect("flagged");
    let seen = of_news(&mut ann).await;
    assert_eq!((seen.unread, seen.marked_unread), (0, true));
}

async fn other_tenants_have_no_contact(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    let message_id = send(&mut world.backend(), "news", "one").await.message_id;
    let mut eve = world.client("globex", Principal::User(UserId::new("eve")));
    let list = pb::ListMessagesRequest { room_id: "news".to_owned(), ..Default::default() };
    refused(eve.messages.list_messages(list).await, Reason::RoomNotFound);
    let get = pb::GetMessageRequest { message_id: message_id.clone() };
    refused(eve.messages.get_message(get).await, Reason::MessageNotFound);
    let delete = pb::DeleteMessageRequest { message_id };
    refused(eve.messages.delete_message(delete).await, Reason::MessageNotFound);
    assert_eq!(unread(&mut eve).await, 0);
    let user_id = "eve".to_owned();
    let list = pb::ListUserLogsRequest { user_id, ..Default::default() };
    let page = world.internal("globex").user_logs.list_user_logs(list).await.expect("a list");
    assert!(page.into_inner().logs.is_empty());
    assert!(places(&world, room.log_id).await.is_empty());
}

async fn a_contact_is_of_one_life_of_the_room(db: Db) {
    let world = World::open(db).await;
    let first = broadcast(&world, "news").await;
    let mut ann = world.user("ann");
    assert_eq!(of_news(&mut ann).await.read_seq, 2);
    first.close().await;
    assert!(listed(&world, "ann").await.is_empty());
    let mark = pb::MarkAllReadRequest { room_id: "news".to_owned() };
    for client in [&mut ann, &mut world.user("bob")] {
        refused(client.marks.mark_all_read(mark.clone()).await, Reason::RoomNotFound);
    }
    world.service.store().empty_closed().await.expect("emptied");
    assert!(places(&world, first.log_id).await.is_empty());

    // A group has the id now, of which Ann is no part.
    let second = group(&world, "news", &["cid"]).await;
    refused(ann.marks.mark_all_read(mark.clone()).await, Reason::NotAMember);
    second.close().await;
    let third = broadcast(&world, "news").await;
    send(&mut world.backend(), "news", "one").await;
    assert_eq!(of_news(&mut ann).await.read_seq, 3);
    assert_eq!(places(&world, third.log_id).await, [place("ann", 3)]);
}

async fn a_contact_beside_the_deletion_leaves_nothing_behind(db: Db) {
    let world = World::open(db).await;
    for round in 0..10 {
        let room = broadcast(&world, "news").await;
        let contacts = (0..4).map(|n| {
            let mut user = world.user(&format!("user {n}"));
            async move {
                let mark = pb::MarkAllReadRequest { room_id: "news".to_owned() };
                match user.marks.mark_all_read(mark).await {
                    Ok(_) => {}
                    Err(status) => {
                        assert_eq!(Reason::of(&status), Some(Reason::RoomNotFound), "{status:?}");
                    }
                }
                assert_eq!(unread(&mut user).await, 0);
            }
        });
        tokio::join!(futures::future::join_all(contacts), room.close());
        world.service.store().empty_closed().await.expect("emptied");
        assert_eq!(unread(&mut world.user("user 0")).await, 0);
        assert!(places(&world, room.log_id).await.is_empty(), "round {round}");
    }
}

async fn a_log_that_was_purged_has_no_contacts(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    let message_id = send(&mut world.backend(), "news", "one").await.message_id;
    unread(&mut world.user("ann")).await;
    room.close().await;
    let store = world.service.store();
    store.empty_closed().await.expect("emptied");
    world.clock.advance(40 * 24 * 3600 * 1_000_000);
    store.prune(parlance_message::ON_PRUNE).await.expect("purged");
    assert!(store.view(room.log_id, None).await.expect("a view").is_none());
    let get = pb::GetMessageRequest { message_id };
    refused(world.user("bob").messages.get_message(get).await, Reason::MessageNotFound);
    assert_eq!(unread(&mut world.user("bob")).await, 0);
    assert!(places(&world, room.log_id).await.is_empty());
}
