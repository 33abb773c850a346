//! Messages that expire, on every path.

use std::fmt::Debug;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::mention_service_client::MentionServiceClient;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::reaction_service_client::ReactionServiceClient;
use parlance_proto::message::v1::thread_service_client::ThreadServiceClient;
use parlance_rpc::Reason;
use parlance_types::Micros;

use crate::harness::{
    Client, TENANT, World, delete, edit, editing, get, refused, saying, send, text, unread,
    violates, words,
};
use crate::history::clear_for_all::{prune, rows};
use crate::rooms::{Room, plan};
use crate::stream::harness::{from, latest, text as text_of};

test_on_each_db!(parlance_message::MIGRATIONS =>
    from_its_time_on_nobody_gets_the_content_and_then_it_is_deleted,
    a_message_says_when_it_expires_and_an_edit_does_not_change_it,
    what_has_expired_is_changed_no_more,
    a_repeat_gets_the_first_reply_whatever_has_expired,
    what_expires_is_unread_until_it_is_deleted,
    a_live_stream_gets_the_content_and_then_the_deletion,
    a_message_that_is_deleted_before_does_not_expire,
    what_is_cleared_or_closed_does_not_expire_any_more,
    a_message_is_there_for_1_second_to_30_days,
);

pub(super) const SECOND: Micros = 1_000_000;

pub(super) async fn lobby(world: &World) -> Room {
    plan("lobby").owned(&["ann", "bob"]).allow_preview().make(world).await
}

/// A message to the lobby that is there for so many seconds.
pub(super) fn lasting(words: &str, seconds: i64) -> pb::SendMessageRequest {
    let expire_after = Some(prost_types::Duration { seconds, nanos: 0 });
    pb::SendMessageRequest { expire_after, ..saying("lobby", words) }
}

pub(super) async fn send_lasting(
    client: &mut Client,
    words: &str,
    seconds: i64,
) -> pb::SendMessageResponse {
    client.messages.send_message(lasting(words, seconds)).await.expect("sent").into_inner()
}

/// Keeps every janitor from looking at what expires from here on, or lets it look.
pub(super) async fn rest(world: &World, rest: bool) {
    let due = if rest { i64::MAX } else { 0 };
    let update = world.service.store().db().write("UPDATE expiries SET due = $1").bind(due);
    update.execute().await.expect("moved");
}

pub(super) async fn sweep(world: &World) {
    world.service.expiries().sweep().await.expect("swept");
}

pub(crate) async fn differences(client: &Client) -> Vec<pb::UnreadDifference> {
    let counted = client.clone().inbox.recount_unread(pb::RecountUnreadRequest {}).await;
    counted.expect("counted").into_inner().differences
}

/// Which answers and streams that Bob, or a stranger, gets hold the secret.
async fn holders(world: &World, room: &Room, message_id: &str, head: i64) -> Vec<&'static str> {
    let bob = world.user("bob");
    let (room_id, message_id) = ("lobby".to_owned(), message_id.to_owned());
    let mut found = Vec::new();
    let mut look = |what, answer: &dyn Debug| {
        if format!("{answer:?}").contains("secret") {
            found.push(what);
        }
    };
    look("GetMessage", &get(&mut bob.clone(), &message_id).await);
    let list = pb::ListMessagesRequest { room_id: room_id.clone(), ..Default::default() };
    look("ListMessages", &bob.clone().messages.list_messages(list.clone()).await.expect("a page"));
    let preview = pb::ListMessagesRequest { preview: true, ..list };
    look("preview", &world.user("zed").messages.list_messages(preview).await.expect("a page"));
    let replies = pb::ListRepliesRequest { message_id, ..Default::default() };
    let mut threads = ThreadServiceClient::new(bob.transport.clone());
    look("ListReplies", &threads.list_replies(replies).await.expect("replies"));
    let mentions = pb::ListMentionsRequest { room_id: room_id.clone(), ..Default::default() };
    let mut mentioning = MentionServiceClient::new(bob.transport.clone());
    look("ListMentions", &mentioning.list_mentions(mentions).await.expect("mentions"));
    let mut pins = PinServiceClient::new(bob.transport.clone());
    look("ListPins", &pins.list_pins(pb::ListPinsRequest { room_id }).await.expect("pins"));
    let list = |order: pb::UserLogOrder, log_ids| pb::ListUserLogsRequest {
        user_id: "bob".to_owned(),
        order: order.into(),
        log_ids,
        ..Default::default()
    };
    for (what, asked) in [
        ("rooms by activity", list(pb::UserLogOrder::Activity, Vec::new())),
        ("rooms by creation", list(pb::UserLogOrder::Creation, Vec::new())),
        ("rooms by name", list(pb::UserLogOrder::Activity, vec![room.log_id.to_string()])),
    ] {
        let mut lists = world.internal(TENANT).user_logs;
        look(what, &lists.list_user_logs(asked).await.expect("a list"));
    }
    let mut stream = world.subscribe(bob, from(room, "", 0)).await;
    look("Subscribe", &stream.events_until(head).await);
    found
}

/// B-108.
async fn from_its_time_on_nobody_gets_the_content_and_then_it_is_deleted(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let mentions = Some(pb::Mentions { user_ids: vec!["bob".to_owned()], everyone: false });
    let content = Some(pb::MessageContent { mentions: mentions.clone(), ..text("a secret") });
    let request = pb::SendMessageRequest { content, ..lasting("", 60) };
    let first = ann.messages.send_message(request).await.expect("sent").into_inner();
    let content = Some(pb::MessageContent { mentions, ..text("another secret") });
    let request = pb::EditMessageRequest { content, ..editing(&first.message_id, "") };
    ann.messages.edit_message(request).await.expect("edited");
    let pin = pb::PinMessageRequest { message_id: first.message_id.clone() };
    PinServiceClient::new(ann.transport.clone()).pin_message(pin).await.expect("pinned");
    let reply_to_message_id = first.message_id.clone();
    let content = Some(pb::MessageContent { reply_to_message_id, ..text("a secret, too") });
    let request = pb::SendMessageRequest { content, ..lasting("", 60) };
    let reply = ann.messages.send_message(request).await.expect("sent").into_inner();
    rest(&world, true).await;

    world.clock.advance(60 * SECOND - 1);
    let all = [
        "GetMessage",
        "ListMessages",
        "preview",
        "ListReplies",
        "ListMentions",
        "ListPins",
        "rooms by activity",
        "rooms by creation",
        "rooms by name",
        "Subscribe",
    ];
    assert_eq!(holders(&world, &room, &first.message_id, reply.seq).await, all);
    world.clock.advance(1);
    assert_eq!(holders(&world, &room, &first.message_id, reply.seq).await, [""; 0]);
    let read = get(&mut bob, &first.message_id).await;
    assert_eq!((read.content, read.delete_seq, read.reply_count), (None, 0, 1));

    rest(&world, false).await;
    sweep(&world).await;
    let mut stream = world.subscribe(bob.clone(), from(&room, "", 0)).await;
    let told = stream.events_until(reply.seq + 2).await;
    for (event, sent) in told[told.len() - 2..].iter().zip([&first, &reply]) {
        assert_eq!(event.actor_id, "");
        let Some(Body::MessageDeleted(deleted)) = &event.body else { panic!("{event:?}") };
        assert_eq!((&deleted.message_id, deleted.expired), (&sent.message_id, true));
        assert_eq!(get(&mut bob, &sent.message_id).await.delete_seq, event.seq);
    }
    assert_eq!(get(&mut bob, &first.message_id).await.reply_count, 0);
    assert_eq!(holders(&world, &room, &first.message_id, reply.seq + 2).await, [""; 0]);
    for table in ["expiries", "pins", "mentions"] {
        assert_eq!(rows(&world, table, room.log_id).await, 0, "{table}");
    }
}

async fn a_message_says_when_it_expires_and_an_edit_does_not_change_it(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut ann = world.user("ann");
    let stays = send(&mut ann, "lobby", "stays").await;
    let sent = send_lasting(&mut ann, "hello", 60).await;
    let time = sent.send_time.expect("a time");
    let expires = Some(prost_types::Timestamp { seconds: time.seconds + 60, ..time });
    assert_eq!(get(&mut ann, &stays.message_id).await.expire_time, None);
    assert_eq!(get(&mut ann, &sent.message_id).await.expire_time, expires);
    world.clock.advance(59 * SECOND);
    edit(&mut ann, &sent.message_id, "hello again").await;
    let read = get(&mut ann, &sent.message_id).await;
    assert_eq!((words(&read), read.expire_time), (Some("hello again"), expires));
    let mut stream = world.subscribe(ann.clone(), from(&room, "", 0)).await;
    let events = stream.events_until(sent.seq + 1).await;
    let [.., message, edit] = &events[..] else { panic!("{events:?}") };
    let Some(Body::MessageSent(message)) = &message.body else { panic!("{message:?}") };
    assert_eq!(message.expire_after, Some(prost_types::Duration { seconds: 60, nanos: 0 }));
    let Some(Body::MessageEdited(edit)) = &edit.body else { panic!("{edit:?}") };
    assert_eq!(edit.expire_time, expires);
    world.clock.advance(SECOND);
    assert_eq!(words(&get(&mut ann, &sent.message_id).await), None);
    assert_eq!(words(&get(&mut ann, &stays.message_id).await), Some("stays"));
}

async fn what_has_expired_is_changed_no_more(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let message_id = send_lasting(&mut ann, "hello", 60).await.message_id;
    let mut reactions = ReactionServiceClient::new(bob.transport.clone());
    let mut react = async |kind: &str| {
        let (message_id, kind) = (message_id.clone(), kind.to_owned());
        let request = pb::AddReactionRequest { message_id, kind, replace: false };
        reactions.add_reaction(request).await
    };
    react("tea").await.expect("added");
    let request_id = "an edit".to_owned();
    let once = pb::EditMessageRequest { request_id, ..editing(&message_id, "hello!") };
    let edited = ann.messages.edit_message(once.clone()).await.expect("edited").into_inner();
    rest(&world, true).await;
    world.clock.advance(60 * SECOND);
    let gone = Reason::MessageDeleted;
    refused(ann.messages.edit_message(editing(&message_id, "late")).await, gone);
    refused(react("ale").await, gone);
    let mut pins = PinServiceClient::new(ann.transport.clone());
    let pin = pb::PinMessageRequest { message_id: message_id.clone() };
    refused(pins.pin_message(pin).await, gone);
    // What was done is done, and what it had is shown no more.
    let again = ann.messages.edit_message(once).await.expect("a repeat").into_inner();
    assert_eq!(again, edited);
    assert_eq!(get(&mut ann, &message_id).await.reactions, []);
    let list = pb::ListReactionsRequest { message_id: message_id.clone(), ..Default::default() };
    let mut reactions = ReactionServiceClient::new(bob.transport.clone());
    let listed = reactions.list_reactions(list).await.expect("a list").into_inner();
    assert_eq!(listed.reactions, []);
    // It may be answered, as one that is deleted may, and deleted as any other.
    let reply_to_message_id = message_id.clone();
    let content = Some(pb::MessageContent { reply_to_message_id, ..text("what was it?") });
    let request = pb::SendMessageRequest { content, ..saying("lobby", "") };
    ann.messages.send_message(request).await.expect("a reply");
    let seq = delete(&mut ann, &message_id).await;
    rest(&world, false).await;
    sweep(&world).await;
    assert_eq!(get(&mut ann, &message_id).await.delete_seq, seq);
}

async fn a_repeat_gets_the_first_reply_whatever_has_expired(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let once = |seconds| {
        let request_id = "once".to_owned();
        pb::SendMessageRequest { request_id, ..lasting("hello", seconds) }
    };
    let first = ann.messages.send_message(once(60)).await.expect("sent").into_inner();
    for advance in [0, 60 * SECOND] {
        world.clock.advance(advance);
        sweep(&world).await;
        let again = ann.messages.send_message(once(60)).await.expect("a repeat").into_inner();
        assert_eq!(again, first);
        refused(ann.messages.send_message(once(61)).await, Reason::RequestIdReused);
    }
}

async fn what_expires_is_unread_until_it_is_deleted(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    send(&mut ann, "lobby", "stays").await;
    for seconds in [60, 120] {
        send_lasting(&mut ann, "goes", seconds).await;
    }
    rest(&world, true).await;
    for (left, advance) in [(3, 0), (2, 60 * SECOND), (1, 60 * SECOND)] {
        world.clock.advance(advance);
        rest(&world, false).await;
        sweep(&world).await;
        assert_eq!((unread(&mut bob).await, differences(&bob).await), (left, vec![]));
        rest(&world, true).await;
    }
}

async fn a_live_stream_gets_the_content_and_then_the_deletion(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let mut live = world.subscribe(bob.clone(), latest(&["lobby"])).await;
    live.live().await;
    let sent = send_lasting(&mut ann, "a secret", 60).await;
    assert_eq!(text_of(&live.event().await), Some("a secret"));
    rest(&world, true).await;
    world.clock.advance(60 * SECOND);
    // Who comes later gets what is left of it, from memory and from the database alike.
    let mut late = world.subscribe(bob, from(&room, "", 0)).await;
    let events = late.events_until(sent.seq).await;
    let Some(Body::MessageSent(left)) = &events[events.len() - 1].body else { panic!("a message") };
    assert_eq!((left.content.as_ref(), left.deleted), (None, true));
    late.caught_up().await;
    rest(&world, false).await;
    sweep(&world).await;
    for stream in [&mut live, &mut late] {
        let event = stream.event().await;
        let Some(Body::MessageDeleted(deleted)) = event.body else { panic!("{event:?}") };
        assert_eq!((deleted.message_seq, deleted.expired), (sent.seq, true));
    }
}

async fn a_message_that_is_deleted_before_does_not_expire(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let sent = send_lasting(&mut ann, "hello", 60).await;
    let seq = delete(&mut ann, &sent.message_id).await;
    world.clock.advance(60 * SECOND);
    sweep(&world).await;
    assert_eq!(get(&mut bob, &sent.message_id).await.delete_seq, seq);
    assert_eq!(send(&mut ann, "lobby", "next").await.seq, seq + 1, "no event more");
    assert_eq!(rows(&world, "expiries", room.log_id).await, 0);
    assert_eq!((unread(&mut bob).await, differences(&bob).await), (1, vec![]));
}

async fn what_is_cleared_or_closed_does_not_expire_any_more(db: Db) {
    use parlance_proto::message::v1::history_service_client::HistoryServiceClient;

    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    send_lasting(&mut ann, "hello", 60).await;
    let mut history = HistoryServiceClient::new(ann.transport.clone());
    let all = pb::ClearHistoryForAllRequest { room_id: "lobby".to_owned(), ..Default::default() };
    let cleared = history.clear_history_for_all(all).await.expect("cleared").into_inner().seq;
    world.clock.advance(60 * SECOND);
    sweep(&world).await;
    prune(&world).await;
    sweep(&world).await;
    let next = send_lasting(&mut ann, "hello", 60).await.seq;
    assert_eq!(next, cleared + 1, "no event more");
    assert_eq!(differences(&bob).await, []);
    let closed = room.close().await;
    world.clock.advance(60 * SECOND);
    sweep(&world).await;
    assert_eq!(rows(&world, "expiries", room.log_id).await, 0);
    let view = world.service.store().view(room.log_id, None).await.expect("a view");
    assert_eq!(view.expect("a log").head, closed);
}

async fn a_message_is_there_for_1_second_to_30_days(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    for seconds in [1, 30 * 24 * 3600] {
        send_lasting(&mut ann, "hello", seconds).await;
    }
    for (seconds, nanos) in [(0, 0), (0, 999_999_999), (-1, 0), (30 * 24 * 3600, 1_000)] {
        let expire_after = Some(prost_types::Duration { seconds, nanos });
        let request = pb::SendMessageRequest { expire_after, ..saying("lobby", "hello") };
        violates(ann.messages.send_message(request).await, "expire_after");
    }
}
