//! `HideMessages`.

use std::fmt::Debug;

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_message::ON_PRUNE;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::hide_service_client::HideServiceClient;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::mention_service_client::MentionServiceClient;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::thread_service_client::ThreadServiceClient;
use parlance_rpc::testing::{called_by, caller};
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use tonic::{Response, Status};

use crate::expiry::expiries::differences;
use crate::harness::{
    Client, TENANT, World, bad_message_ids, delete, edit, get, refused, saying, send, text, unread,
    violates, words,
};
use crate::history::clear_for_all::rows;
use crate::rights;
use crate::rooms::{Own, Room, group, plan};
use crate::stream::harness::{Mood, from, hints_only, latest, two_nodes};
use crate::world::reopen;

test_on_each_db!(parlance_message::MIGRATIONS =>
    what_a_user_hid_is_in_no_answer_of_theirs_and_in_all_of_others,
    what_is_hidden_is_not_unread_whatever_else_becomes_of_it,
    streams_of_the_user_are_told_and_later_ones_leave_it_out,
    hiding_again_changes_nothing_and_tells_nothing,
    all_are_hidden_or_none,
    a_user_hides_1000_messages_of_a_room,
    who_hides_at_once_on_two_nodes_hides_1000,
    who_becomes_a_member_again_has_hidden_nothing,
    rows_go_with_what_is_pruned_and_with_the_room,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

async fn lobby(world: &World) -> Room {
    plan("lobby").owned(&["ann", "bob"]).make(world).await
}

pub(super) async fn try_hide(
    client: &Client,
    message_ids: &[&str],
) -> Result<Response<pb::HideMessagesResponse>, Status> {
    let message_ids = message_ids.iter().map(ToString::to_string).collect();
    let mut hide = HideServiceClient::new(client.transport.clone());
    hide.hide_messages(pb::HideMessagesRequest { message_ids }).await
}

pub(super) async fn hide(client: &Client, message_ids: &[&str]) {
    try_hide(client, message_ids).await.expect("hidden");
}

/// The words of the latest page.
async fn page(client: &Client) -> Vec<String> {
    let list = pb::ListMessagesRequest {
        room_id: "lobby".to_owned(),
        page_size: 100,
        ..Default::default()
    };
    let page = client.clone().messages.list_messages(list).await.expect("a page").into_inner();
    let of = |message: &pb::Message| words(message).unwrap_or_default().to_owned();
    page.messages.iter().map(of).collect()
}

/// Which answers that a user gets about the lobby hold the secret.
async fn holders(world: &World, user: &str, root: &str, secret: &str) -> Vec<&'static str> {
    let client = world.user(user);
    let room_id = "lobby".to_owned();
    let mut found = Vec::new();
    let mut look = |what, answer: &dyn Debug| {
        if format!("{answer:?}").contains("secret") {
            found.push(what);
        }
    };
    let request = pb::GetMessageRequest { message_id: secret.to_owned() };
    look("GetMessage", &client.clone().messages.get_message(request).await.ok());
    look("ListMessages", &page(&client).await);
    let replies = pb::ListRepliesRequest { message_id: root.to_owned(), ..Default::default() };
    let mut threads = ThreadServiceClient::new(client.transport.clone());
    look("ListReplies", &threads.list_replies(replies).await.expect("replies"));
    let mentions = pb::ListMentionsRequest { room_id: room_id.clone(), ..Default::default() };
    let mut mentioning = MentionServiceClient::new(client.transport.clone());
    look("ListMentions", &mentioning.list_mentions(mentions).await.expect("mentions"));
    let mut pins = PinServiceClient::new(client.transport.clone());
    look("ListPins", &pins.list_pins(pb::ListPinsRequest { room_id }).await.expect("pins"));
    for (what, order) in [
        ("rooms by activity", pb::UserLogOrder::Activity),
        ("rooms by creation", pb::UserLogOrder::Creation),
    ] {
        let (user_id, order) = (user.to_owned(), order.into());
        let request = pb::ListUserLogsRequest { user_id, order, ..Default::default() };
        let list = world.internal(TENANT).user_logs.list_user_logs(request).await;
        look(what, &list.expect("a list"));
    }
    found
}

/// B-105.
async fn what_a_user_hid_is_in_no_answer_of_theirs_and_in_all_of_others(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let root = send(&mut ann, "lobby", "root").await.message_id;
    let content = pb::MessageContent {
        reply_to_message_id: root.clone(),
        mentions: Some(pb::Mentions { user_ids: Vec::new(), everyone: true }),
        ..text("a secret")
    };
    let request = pb::SendMessageRequest { content: Some(content), ..saying("lobby", "") };
    let secret = ann.messages.send_message(request).await.expect("sent").into_inner().message_id;
    let pin = pb::PinMessageRequest { message_id: secret.clone() };
    PinServiceClient::new(ann.transport.clone()).pin_message(pin).await.expect("pinned");
    let all = [
        "GetMessage",
        "ListMessages",
        "ListReplies",
        "ListMentions",
        "ListPins",
        "rooms by activity",
        "rooms by creation",
    ];
    assert_eq!(holders(&world, "bob", &root, &secret).await, all);
    hide(&bob, &[&secret]).await;
    assert_eq!(holders(&world, "bob", &root, &secret).await, [""; 0]);
    assert_eq!(holders(&world, "ann", &root, &secret).await, all);
    // A list shows the last message that is left.
    let request = pb::ListUserLogsRequest { user_id: "bob".to_owned(), ..Default::default() };
    let list = world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list");
    let shown = list.into_inner().logs.remove(0).last_message.expect("a message");
    assert_eq!(shown.message_id, root);
    // So it is for who has blocked somebody, too.
    Own::of(&world, "bob").block("zed", true).await;
    assert_eq!(holders(&world, "bob", &root, &secret).await, [""; 0]);
}

async fn what_is_hidden_is_not_unread_whatever_else_becomes_of_it(db: Db) {
    let world = World::open(db).await;
    plan("lobby").owned(&["ann", "bob", "cas"]).make(&world).await;
    let (mut ann, mut bob, mut cas) = (world.user("ann"), world.user("bob"), world.user("cas"));
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(send(&mut ann, "lobby", &n.to_string()).await);
    }
    let of_cas = send(&mut cas, "lobby", "of Cas").await.message_id;
    let mut counts = async |left: i64| {
        let found = (unread(&mut bob).await, differences(&bob).await);
        assert_eq!(found, (left, vec![]));
    };
    counts(7).await;
    let (reader, own) = (world.user("bob"), Own::of(&world, "bob"));
    hide(&reader, &[&ids[1].message_id, &ids[4].message_id, &of_cas]).await;
    counts(4).await;
    // One that is deleted is taken off once.
    delete(&mut ann, &ids[4].message_id).await;
    counts(4).await;
    delete(&mut ann, &ids[5].message_id).await;
    counts(3).await;
    // So is what is by somebody blocked.
    own.block("cas", true).await;
    counts(3).await;
    own.block("ann", true).await;
    counts(0).await;
    own.block("ann", false).await;
    own.block("cas", false).await;
    counts(3).await;
    // And what is read.
    let request = pb::MarkReadRequest { room_id: "lobby".to_owned(), seq: ids[2].seq };
    reader.clone().marks.mark_read(request).await.expect("marked");
    counts(1).await;
    hide(&reader, &[&ids[3].message_id]).await;
    counts(0).await;
}

async fn streams_of_the_user_are_told_and_later_ones_leave_it_out(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let world = World::open(reopen(&db).await).await;
    let room = plan("r").owned(&["ann", "bob"]).make(&here).await;
    let (mut one, mut other) = (here.follow("bob").await, there.follow("bob").await);
    let mut of_ann = here.follow("ann").await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let seq = here.send(&room, &n.to_string()).await;
        for stream in [&mut one, &mut other, &mut of_ann] {
            assert_eq!(stream.event().await.seq, seq);
        }
        ids.push(format!("{}-{seq}", room.log_id));
    }
    let bob = caller(TENANT, Principal::User(UserId::new("bob")));
    let mut hide = HideServiceClient::new(called_by(here.service.public(), bob, None));
    let message_ids = vec![ids[1].clone()];
    hide.hide_messages(pb::HideMessagesRequest { message_ids }).await.expect("hidden");
    for stream in [&mut one, &mut other] {
        let Frame::Notice(notice) = stream.next().await else { panic!("a notice") };
        let Some(pb::notice::Notice::MessagesHidden(told)) = notice.notice else {
            panic!("{notice:?}")
        };
        assert_eq!((notice.room_id.as_str(), told.seqs), ("r", vec![4]));
    }
    let edited = edit(&mut world.backend(), &ids[1], "edited").await.seq;
    let next = here.send(&room, "next").await;
    for seq in [edited, next] {
        assert_eq!(of_ann.event().await.seq, seq, "she was told nothing");
    }
    // Streams that begin now leave it out, and its edit.
    for node in [&here, &there] {
        let mut stream = node.subscribe("bob", from(&room, "", 0)).await;
        let (mut events, mut skipped) = (Vec::new(), Vec::new());
        while events.last() != Some(&next) {
            match stream.next().await {
                Frame::Event(event) => events.push(event.event.expect("an event").seq),
                Frame::Skipped(range) => skipped.push((range.from_seq, range.to_seq)),
                _ => {}
            }
        }
        assert_eq!((events, skipped), (vec![1, 2, 3, 5, next], vec![(4, 4), (edited, edited)]));
    }
}

async fn hiding_again_changes_nothing_and_tells_nothing(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let one = send(&mut ann, "lobby", "one").await.message_id;
    let two = send(&mut ann, "lobby", "two").await;
    let mut stream = world.subscribe(bob.clone(), latest(&["lobby"])).await;
    stream.live().await;
    for ids in [&[&*one][..], &[&*one], &[&*one, &*two.message_id]] {
        hide(&bob, ids).await;
    }
    for seq in [two.seq - 1, two.seq] {
        let Frame::Notice(notice) = stream.next().await else { panic!("a notice") };
        let Some(pb::notice::Notice::MessagesHidden(told)) = notice.notice else { panic!() };
        assert_eq!(told.seqs, [seq]);
    }
    assert_eq!(rows(&world, "hidden_messages", room.log_id).await, 2);
    assert_eq!((page(&bob).await.len(), page(&ann).await.len()), (0, 2));
}

async fn all_are_hidden_or_none(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let one = send(&mut ann, "lobby", "one").await.message_id;
    let unknown = format!("{}-99", room.log_id);
    let created = format!("{}-1", room.log_id);
    for bad in [&unknown, &created] {
        refused(try_hide(&bob, &[&one, bad]).await, Reason::MessageNotFound);
    }
    assert_eq!(page(&bob).await, ["one"]);
    // What stands for one that is deleted can be hidden, too.
    delete(&mut ann, &one).await;
    assert_eq!(page(&bob).await.len(), 1);
    hide(&bob, &[&one]).await;
    assert_eq!(page(&bob).await.len(), 0);
}

/// Makes so many messages, faster than by requests; gives their ids.
pub(super) async fn fill(world: &World, room: &Room, count: i64) -> Vec<String> {
    let db = world.service.store().db();
    let head = world.service.store().view(room.log_id, None).await.expect("a view");
    let head = head.expect("a log").head;
    let insert = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
        INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, counted, payload)
        SELECT h.log_id, h.head + n.i, h.head_time, h.ord + n.i, 1, m.sender_id,
               'of old ' || CAST(h.head + n.i AS TEXT), TRUE, m.payload
          FROM n, heads h JOIN events m ON m.log_id = h.log_id AND m.seq = h.head
         WHERE h.log_id = $1";
    db.write(insert).bind(room.log_id.0).bind(count).execute().await.expect("messages");
    let update = "UPDATE heads SET head = head + $2, ord = ord + $2 WHERE log_id = $1";
    db.write(update).bind(room.log_id.0).bind(count).execute().await.expect("moved");
    (1..=count).map(|n| format!("{}-{}", room.log_id, head + n)).collect()
}

fn hundreds(ids: &[String]) -> impl Iterator<Item = Vec<&str>> {
    ids.chunks(100).map(|ids| ids.iter().map(String::as_str).collect())
}

async fn a_user_hides_1000_messages_of_a_room(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    send(&mut ann, "lobby", "x").await;
    let ids = fill(&world, &room, 1001).await;
    for hundred in hundreds(&ids[..1000]) {
        hide(&bob, &hundred).await;
    }
    refused(try_hide(&bob, &[&ids[1000]]).await, Reason::TooManyHidden);
    // What is hidden already is no more, and others hide their own.
    hide(&bob, &[&ids[0]]).await;
    hide(&ann, &[&ids[1000]]).await;
    assert_eq!((unread(&mut bob).await, differences(&bob).await), (2, vec![]));
    assert_eq!(page(&bob).await.len(), 1, "the page ends before what is hidden");
    // What is pruned makes room.
    let mut history = HistoryServiceClient::new(ann.transport.clone());
    let clear = pb::ClearHistoryForAllRequest {
        room_id: "lobby".to_owned(),
        through_message_id: ids[499].clone(),
        ..Default::default()
    };
    history.clear_history_for_all(clear).await.expect("cleared");
    hide(&bob, &[&ids[1000]]).await;
    assert_eq!(rows(&world, "hidden_messages", room.log_id).await, 502);
}

async fn who_hides_at_once_on_two_nodes_hides_1000(db: Db) {
    let other = World::open(reopen(&db).await).await;
    let world = World::open(db).await;
    let room = lobby(&world).await;
    send(&mut world.user("ann"), "lobby", "x").await;
    let ids = fill(&world, &room, 1200).await;
    let bobs = [world.user("bob"), other.user("bob")];
    let hiding = hundreds(&ids).zip(bobs.iter().cycle());
    let hiding = hiding.map(|(ids, bob)| async move { try_hide(bob, &ids).await });
    let (hidden, over): (Vec<_>, Vec<_>) =
        join_all(hiding).await.into_iter().partition(Result::is_ok);
    assert_eq!((hidden.len(), over.len()), (10, 2));
    for status in over {
        assert_eq!(Reason::of(&status.expect_err("over")), Some(Reason::TooManyHidden));
    }
    assert_eq!(rows(&world, "hidden_messages", room.log_id).await, 1000);
}

async fn who_becomes_a_member_again_has_hidden_nothing(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let one = send(&mut ann, "lobby", "one").await.message_id;
    let two = send(&mut ann, "lobby", "two").await.message_id;
    hide(&bob, &[&one]).await;
    room.leave("bob").await;
    room.join("bob").await;
    assert_eq!(page(&bob).await, ["one", "two"]);
    // Of a membership before nothing comes back, whether its rows are gone or not.
    hide(&bob, &[&two]).await;
    assert_eq!(page(&bob).await, ["one"]);
    world.service.hider().sweep().await.expect("swept");
    assert_eq!(page(&bob).await, ["one"]);
    assert_eq!(rows(&world, "hidden_messages", room.log_id).await, 1);
    assert_eq!(rows(&world, "hidden_remains", room.log_id).await, 0);
}

async fn rows_go_with_what_is_pruned_and_with_the_room(db: Db) {
    let world = World::open(db).await;
    let users: Vec<String> = (0..6).map(|n| format!("user {n}")).collect();
    let all: Vec<&str> = users.iter().map(String::as_str).collect();
    let room = plan("lobby").owned(&all).make(&world).await;
    send(&mut world.user(all[0]), "lobby", "x").await;
    let ids = fill(&world, &room, 200).await;
    for user in &all {
        for hundred in hundreds(&ids) {
            hide(&world.user(user), &hundred).await;
        }
    }
    let store = world.service.store();
    let mut history = HistoryServiceClient::new(world.user(all[0]).transport);
    let clear = pb::ClearHistoryForAllRequest {
        room_id: "lobby".to_owned(),
        through_message_id: ids[99].clone(),
        ..Default::default()
    };
    history.clear_history_for_all(clear).await.expect("cleared");
    store.prune(ON_PRUNE).await.expect("pruned");
    // A step lets go of 500: the rest goes with what is pruned next.
    assert_eq!(rows(&world, "hidden_messages", room.log_id).await, 700);
    let clear = pb::ClearHistoryForAllRequest {
        room_id: "lobby".to_owned(),
        through_message_id: ids[109].clone(),
        ..Default::default()
    };
    history.clear_history_for_all(clear).await.expect("cleared");
    store.prune(ON_PRUNE).await.expect("pruned");
    assert_eq!(rows(&world, "hidden_messages", room.log_id).await, 90 * 6);
    room.close().await;
    store.empty_closed().await.expect("emptied");
    world.service.hider().sweep().await.expect("swept");
    assert_eq!(rows(&world, "hidden_messages", room.log_id).await, 0);
    assert_eq!(rows(&world, "hidden_remains", room.log_id).await, 0);
}

async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_message_call(&world, async |client: Client, message_id| {
        try_hide(&client, &[message_id]).await.map(drop)
    })
    .await;
    let mut ann = world.user("ann");
    let message_id = send(&mut ann, "m-group", "one").await.message_id;
    refused(try_hide(&world.backend(), &[&message_id]).await, Reason::UserRequired);
    hide(&world.service_for("ann"), &[&message_id]).await;
    let request = pb::GetMessageRequest { message_id };
    refused(ann.messages.get_message(request).await, Reason::MessageNotFound);
}

async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    group(&world, "cellar", &["ann"]).await;
    let mut ann = world.user("ann");
    let one = send(&mut ann, "lobby", "one").await.message_id;
    let elsewhere = send(&mut ann, "cellar", "one").await.message_id;
    violates(try_hide(&ann, &[]).await, "message_ids");
    violates(try_hide(&ann, &[&*one; 101]).await, "message_ids");
    violates(try_hide(&ann, &[&one, &one]).await, "message_ids[1]");
    violates(try_hide(&ann, &[&one, &elsewhere]).await, "message_ids[1]");
    for bad in bad_message_ids() {
        violates(try_hide(&ann, &[&one, bad]).await, "message_ids[1]");
    }
    assert_eq!(words(&get(&mut ann, &one).await), Some("one"));
}
