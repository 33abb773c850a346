//! Users who have blocked others.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_log::Projection;
use parlance_message::Error;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_rpc::Reason;
use parlance_types::{LogId, Seq};
use tokio::sync::Notify;

use crate::harness::{
    Client, TENANT, World, delete, edit, editing, get, refused, saying, send, unread, words,
};
use crate::reaction::reactions;
use crate::rooms::{Own, Room, plan};
use crate::stream::harness::{Reader, all_rooms, latest, node_with, quick};
use crate::world::{World as Logs, draft, reopen, user};

test_on_each_db!(parlance_message::MIGRATIONS =>
    who_is_blocked_writes_no_more_into_the_direct_room,
    what_is_written_by_whom_one_blocked_is_left_out_of_pages,
    what_is_written_by_whom_one_blocked_is_not_unread_and_in_no_list,
    unblocking_shows_all_of_it_again,
    a_stream_passes_over_whom_its_user_has_blocked,
    a_stream_learns_of_a_block_from_another_node_without_a_hint,
    a_silent_fact_takes_no_number,
    nothing_of_a_blocked_peer_is_accepted_after_the_block,
);

pub(crate) async fn direct(on: &impl AsRef<parlance_log::Store>) -> Room {
    plan("pair").kind(RoomKind::Direct).members(&["ann", "bob"]).make(on).await
}

pub(crate) async fn page(
    client: &mut Client,
    room_id: &str,
    size: i32,
) -> pb::ListMessagesResponse {
    let (room_id, page_size) = (room_id.to_owned(), size);
    let request = pb::ListMessagesRequest { room_id, page_size, ..Default::default() };
    client.messages.list_messages(request).await.expect("a page").into_inner()
}

pub(crate) fn texts(page: &pb::ListMessagesResponse) -> Vec<&str> {
    page.messages.iter().filter_map(words).collect()
}

/// B-158. B-192.
async fn who_is_blocked_writes_no_more_into_the_direct_room(db: Db) {
    let world = World::open(db).await;
    let room = direct(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let (kept, own) = (send(&mut bob, "pair", "one").await, send(&mut bob, "pair", "two").await);
    let request = pb::SendMessageRequest { request_id: "r1".to_owned(), ..saying("pair", "three") };
    let first = bob.messages.send_message(request.clone()).await.expect("sent").into_inner();
    Own::of(&world, "ann").block("bob", true).await;
    room.block_peer("bob", true).await;

    refused(bob.messages.send_message(saying("pair", "x")).await, Reason::Blocked);
    let for_bob = world.service_for("bob").messages.send_message(saying("pair", "x")).await;
    refused(for_bob, Reason::Blocked);
    refused(bob.messages.edit_message(editing(&kept.message_id, "x")).await, Reason::Blocked);
    let mut pins = PinServiceClient::new(bob.transport.clone());
    let pin = pb::PinMessageRequest { message_id: kept.message_id.clone() };
    refused(pins.pin_message(pin).await, Reason::Blocked);
    refused(reactions::add(&bob, &kept.message_id, "tea").await, Reason::Blocked);
    let typing = pb::TypingNotice { lasts: Some(prost_types::Duration { seconds: 1, nanos: 0 }) };
    let typing = pb::PublishNoticeRequest {
        room_id: "pair".to_owned(),
        user_id: "bob".to_owned(),
        notice: Some(Notice::Typing(typing)),
    };
    refused(world.internal(TENANT).notices.publish_notice(typing).await, Reason::Blocked);

    // A repeat is no new message, and what was written stays, for both.
    assert_eq!(bob.messages.send_message(request).await.expect("a repeat").into_inner(), first);
    delete(&mut bob, &own.message_id).await;
    assert_eq!(texts(&page(&mut ann, "pair", 10).await), ["one", "three"]);
    assert_eq!(texts(&page(&mut bob, "pair", 10).await), ["one", "three"]);
    send(&mut ann, "pair", "who blocks may write").await;

    room.block_peer("bob", false).await;
    send(&mut bob, "pair", "again").await;
}

/// B-158.
async fn what_is_written_by_whom_one_blocked_is_left_out_of_pages(db: Db) {
    let world = World::open(db).await;
    plan("lobby")
        .owned(&["ann", "bob", "cas"])
        .member("dee", MemberRole::Admin)
        .allow_preview()
        .make(&world)
        .await;
    let [mut ann, mut bob, mut cas] = ["ann", "bob", "cas"].map(|user| world.user(user));
    let hidden = send(&mut bob, "lobby", "of bob").await;
    for n in 0..6 {
        let sender = if n % 2 == 0 { &mut cas } else { &mut bob };
        send(sender, "lobby", &n.to_string()).await;
    }
    let pins = |client: &Client| PinServiceClient::new(client.transport.clone());
    let pin = pb::PinMessageRequest { message_id: hidden.message_id.clone() };
    pins(&world.user("dee")).pin_message(pin).await.expect("pinned");
    for user in ["ann", "eve"] {
        Own::of(&world, user).block("bob", true).await;
    }

    assert_eq!(texts(&page(&mut ann, "lobby", 10).await), ["0", "2", "4"]);
    assert_eq!(page(&mut bob, "lobby", 10).await.messages.len(), 7);
    // A page has as many fewer; its token goes on.
    let request =
        pb::ListMessagesRequest { room_id: "lobby".to_owned(), page_size: 2, ..Default::default() };
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListMessagesRequest { page_token: token, ..request.clone() };
        let page = ann.messages.list_messages(request).await.expect("a page").into_inner();
        found.splice(0..0, page.messages);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found.iter().filter_map(words).collect::<Vec<_>>(), ["0", "2", "4"]);

    let get_hidden = pb::GetMessageRequest { message_id: hidden.message_id.clone() };
    refused(ann.messages.get_message(get_hidden.clone()).await, Reason::MessageNotFound);
    assert_eq!(words(&get(&mut cas, &hidden.message_id).await), Some("of bob"));
    let list = pb::ListPinsRequest { room_id: "lobby".to_owned() };
    let of_ann = pins(&ann).list_pins(list.clone()).await.expect("pins").into_inner();
    assert!(of_ann.pins.is_empty());
    let of_cas = pins(&cas).list_pins(list).await.expect("pins").into_inner();
    assert_eq!(of_cas.pins.len(), 1);
    let preview = pb::ListMessagesRequest { preview: true, ..request };
    let preview = world.user("eve").messages.list_messages(preview).await.expect("a preview");
    assert_eq!(texts(&preview.into_inner()), ["0", "2", "4"]);
}

/// A user's list of rooms: each with its last message and what is unread.
pub(crate) async fn list(
    world: &World,
    user: &str,
    unread_only: bool,
) -> Vec<(String, Option<String>, i64)> {
    let filter = Some(pb::UserLogFilter { unread_only, ..Default::default() });
    let (user_id, skip_empty) = (user.to_owned(), true);
    let request = pb::ListUserLogsRequest { user_id, skip_empty, filter, ..Default::default() };
    let page = world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list");
    let line = |log: pb::UserLog| {
        let last = log.last_message.as_ref().and_then(words).map(str::to_owned);
        (log.room_id, last, log.unread)
    };
    let mut lines: Vec<_> = page.into_inner().logs.into_iter().map(line).collect();
    lines.sort();
    lines
}

pub(crate) fn line(room: &str, last: &str, unread: i64) -> (String, Option<String>, i64) {
    (room.to_owned(), Some(last.to_owned()), unread)
}

async fn unread_of(client: &mut Client, room: &str) -> i64 {
    let request = pb::GetUnreadRequest { room_ids: vec![room.to_owned()], these_only: true };
    client.inbox.get_unread(request).await.expect("unread").into_inner().rooms[0].unread
}

/// B-158.
async fn what_is_written_by_whom_one_blocked_is_not_unread_and_in_no_list(db: Db) {
    let world = World::open(db).await;
    for room in ["both", "only bob"] {
        plan(room).owned(&["ann", "bob", "cas"]).make(&world).await;
    }
    direct(&world).await;
    let [mut ann, mut bob, mut cas] = ["ann", "bob", "cas"].map(|user| world.user(user));
    for text in ["one", "two"] {
        for room in ["both", "only bob", "pair"] {
            send(&mut bob, room, text).await;
        }
        send(&mut cas, "both", text).await;
    }
    send(&mut bob, "both", "last").await;
    assert_eq!(unread(&mut ann).await, 9);
    let own = Own::of(&world, "ann");
    own.block("bob", true).await;

    // In a direct room what is there stays.
    assert_eq!(unread(&mut ann).await, 4);
    assert_eq!(unread_of(&mut ann, "both").await, 2);
    assert_eq!(unread_of(&mut ann, "only bob").await, 0);
    let listed = [line("both", "two", 2), line("pair", "two", 2)];
    assert_eq!(list(&world, "ann", false).await, listed);
    assert_eq!(list(&world, "ann", true).await, listed);
    let ids = pb::ListUserLogIdsRequest {
        user_id: "ann".to_owned(),
        skip_empty: true,
        ..Default::default()
    };
    let mut suite = world.internal(TENANT);
    let ids = suite.user_logs.list_user_log_ids(ids).await.expect("ids").into_inner().log_ids;
    assert_eq!(ids.len(), 2);
    let named =
        pb::ListUserLogsRequest { user_id: "ann".to_owned(), log_ids: ids, ..Default::default() };
    let named = suite.user_logs.list_user_logs(named).await.expect("logs").into_inner().logs;
    assert_eq!(named.iter().map(|log| log.unread).collect::<Vec<_>>(), [2, 2]);
    let recount = ann.inbox.recount_unread(pb::RecountUnreadRequest {}).await.expect("counted");
    let recount = recount.into_inner();
    assert_eq!((recount.total, recount.differences.len()), (4, 0));

    // The others see what they saw.
    assert_eq!(unread(&mut cas).await, 3);
    own.block("cas", true).await;
    assert_eq!(unread(&mut ann).await, 2);
    assert_eq!(list(&world, "ann", false).await, [line("pair", "two", 2)]);
}

async fn unblocking_shows_all_of_it_again(db: Db) {
    let world = World::open(db).await;
    plan("lobby").owned(&["ann", "bob"]).make(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let own = Own::of(&world, "ann");
    send(&mut bob, "lobby", "before").await;
    own.block("bob", true).await;
    own.block("bob", true).await;
    send(&mut bob, "lobby", "meanwhile").await;
    assert!(page(&mut ann, "lobby", 10).await.messages.is_empty());
    own.block("bob", false).await;
    assert_eq!(texts(&page(&mut ann, "lobby", 10).await), ["before", "meanwhile"]);
    assert_eq!(unread(&mut ann).await, 2);
    assert_eq!(list(&world, "ann", true).await, [line("lobby", "meanwhile", 2)]);
}

/// Everything until an event has this seq: what events there are, and what is passed over.
pub(crate) async fn until(reader: &mut Reader, seq: Seq) -> (Vec<Seq>, Vec<(Seq, Seq)>) {
    let (mut events, mut skipped) = (Vec::new(), Vec::new());
    while events.last() != Some(&seq) {
        match reader.next().await {
            Frame::Event(event) => events.push(event.event.expect("an event").seq),
            Frame::Skipped(skip) => skipped.push((skip.from_seq, skip.to_seq)),
            _ => {}
        }
    }
    (events, skipped)
}

/// B-158.
async fn a_stream_passes_over_whom_its_user_has_blocked(db: Db) {
    let world = World::open(db).await;
    plan("lobby").owned(&["ann", "bob", "cas"]).make(&world).await;
    let (mut bob, mut cas) = (world.user("bob"), world.user("cas"));
    let mut open = [
        world.subscribe(world.user("ann"), latest(&["lobby"])).await,
        world.subscribe(world.user("ann"), all_rooms(pb::StreamStart::Latest)).await,
    ];
    for reader in &mut open {
        reader.all_caught_up(1).await;
    }
    let own = Own::of(&world, "ann");
    own.block("bob", true).await;
    // Open streams know soon.
    for reader in &mut open {
        loop {
            send(&mut bob, "lobby", "x").await;
            let seq = send(&mut cas, "lobby", "on").await.seq;
            if until(reader, seq).await.1.last() == Some(&(seq - 1, seq - 1)) {
                break;
            }
        }
    }

    // One that begins now knows from its beginning.
    let first = send(&mut bob, "lobby", "one").await;
    edit(&mut bob, &first.message_id, "two").await;
    let deletion = delete(&mut bob, &first.message_id).await;
    let last = send(&mut cas, "lobby", "three").await.seq;
    let mut replay = world.subscribe(world.user("ann"), all_rooms(pb::StreamStart::FromJoin)).await;
    let (events, skipped) = until(&mut replay, last).await;
    // That something is deleted is no message.
    assert!(events.contains(&deletion) && events.ends_with(&[deletion, last]), "{events:?}");
    let seen: i64 = skipped.iter().map(|(from, to)| to - from + 1).sum();
    assert_eq!(i64::try_from(events.len()).expect("few") + seen, last - events[0] + 1);
    assert!(skipped.contains(&(first.seq, first.seq + 1)), "{skipped:?}");
    // The others get everything.
    let mut others = world.subscribe(world.user("cas"), all_rooms(pb::StreamStart::FromJoin)).await;
    assert!(until(&mut others, last).await.1.is_empty());

    own.block("bob", false).await;
    loop {
        let seq = send(&mut bob, "lobby", "back").await.seq;
        let end = send(&mut cas, "lobby", "on").await.seq;
        if until(&mut replay, end).await.0.contains(&seq) {
            break;
        }
    }
}

async fn a_stream_learns_of_a_block_from_another_node_without_a_hint(db: Db) {
    let node = node_with(&db, quick()).await;
    let other = Logs::open(reopen(&db).await).await;
    let room = plan("lobby").owned(&["ann", "bob", "cas"]).make(&node).await;
    let mut reader = node.subscribe("ann", latest(&["lobby"])).await;
    reader.all_caught_up(1).await;
    Own::of(&other, "ann").block("bob", true).await;
    loop {
        other.say(room.log_id, "bob", "x").await;
        let seq = other.say(room.log_id, "cas", "on").await.message_id.seq;
        if until(&mut reader, seq).await.1.last() == Some(&(seq - 1, seq - 1)) {
            break;
        }
    }
}

async fn a_silent_fact_takes_no_number(db: Db) {
    let world = Logs::open(db).await;
    let room = direct(&world).await;
    let head = world.head(room.log_id).await;
    assert_eq!(room.block_peer("bob", true).await, head);
    // What comes behind it continues it.
    assert_eq!(room.happen(crate::rooms::updated(pb::Effects::default())).await, head + 1);
    let own = Own::of(&world, "ann");
    let said = Projection {
        suspended_until: Some(7),
        blocks: vec![(user("bob"), true), (user("cas"), true), (user("bob"), false)],
        ..Projection::default()
    };
    let applied = own.say(said).await;
    assert_eq!((applied.applied, applied.head), (1, 0));
    let person = world.store.person(&crate::world::tenant(), &user("ann")).await.expect("read");
    assert_eq!((person.said, person.suspended_until), (1, 7));
    assert_eq!(person.blocked.iter().collect::<Vec<_>>(), ["cas"]);
}

/// Eight sends are in flight at another replica while the block is applied.
async fn nothing_of_a_blocked_peer_is_accepted_after_the_block(db: Db) {
    let other = reopen(&db).await;
    let (one, two) = (Logs::open(db).await, Logs::open(other).await);
    let room = direct(&one).await;
    for _ in 0..15 {
        let accepts = Notify::new();
        let blocking = async {
            accepts.notified().await;
            room.block_peer("bob", true).await
        };
        let sends = join_all((0..8).map(|_| send_until_blocked(&two, room.log_id, &accepts)));
        let (head, accepted) = tokio::join!(blocking, sends);
        let late: Vec<_> = accepted.iter().flatten().filter(|seq| **seq > head).collect();
        assert!(late.is_empty(), "{late:?} after {head}");
        room.block_peer("bob", false).await;
    }
}

/// The places of what was accepted until a send was refused.
async fn send_until_blocked(world: &Logs, log_id: LogId, accepts: &Notify) -> Vec<Seq> {
    let mut accepted = Vec::new();
    loop {
        match world.append(draft(log_id, "bob", None, "x")).await {
            Ok(sent) => accepted.push(sent.message_id.seq),
            Err(Error::Refused(Reason::Blocked, _)) => return accepted,
            Err(error) => panic!("{error:?}"),
        }
        accepts.notify_one();
    }
}
