//! `ListReplies`, and what a message says of its thread.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::thread_service_client::ThreadServiceClient;
use parlance_rpc::Reason;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tonic::Status;

use crate::harness::{
    Client, World, bad_message_ids, delete, edit, get, refused, saying, send, text, violates, words,
};
use crate::rights;
use crate::rooms::{Own, Room, plan};
use crate::stream::harness::from;

test_on_each_db!(parlance_message::MIGRATIONS =>
    replies_to_replies_are_of_one_thread,
    a_thread_is_read_page_by_page,
    a_deleted_reply_is_neither_counted_nor_listed,
    a_reply_to_what_is_not_there_is_of_no_thread,
    the_thread_of_a_reply_stands_in_its_event,
    a_repeat_of_a_reply_counts_once,
    replies_are_shown_as_far_as_the_reader_may_see_them,
    strangers_are_refused,
    what_is_wrong_with_a_request_is_named,
    threads_are_what_their_messages_say,
);

pub(super) async fn lobby(world: &World) -> Room {
    plan("lobby").owned(&["ann", "bob"]).make(world).await
}

fn replying(to: &str, words: &str) -> pb::SendMessageRequest {
    let content = pb::MessageContent { reply_to_message_id: to.to_owned(), ..text(words) };
    pb::SendMessageRequest { content: Some(content), ..saying("lobby", "") }
}

pub(super) async fn reply(client: &mut Client, to: &str, words: &str) -> String {
    let sent = client.messages.send_message(replying(to, words)).await.expect("sent");
    sent.into_inner().message_id
}

pub(super) async fn page(
    client: &Client,
    root: &str,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListRepliesResponse, Status> {
    let (message_id, page_token) = (root.to_owned(), page_token.to_owned());
    let request = pb::ListRepliesRequest { message_id, page_size, page_token };
    let mut threads = ThreadServiceClient::new(client.transport.clone());
    Ok(threads.list_replies(request).await?.into_inner())
}

/// The words of all replies, read in small pages.
async fn replies(client: &Client, root: &str) -> Vec<String> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = page(client, root, 2, &token).await.expect("a page");
        all.extend(page.replies.iter().map(|reply| words(reply).expect("words").to_owned()));
        token = page.next_page_token;
        if token.is_empty() {
            return all;
        }
    }
}

/// B-115.
async fn replies_to_replies_are_of_one_thread(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let root = send(&mut ann, "lobby", "tea?").await.message_id;
    let other = send(&mut ann, "lobby", "coffee?").await.message_id;
    world.clock.advance(1_000_000);
    let yes = reply(&mut bob, &root, "yes").await;
    world.clock.advance(1_000_000);
    let with = reply(&mut ann, &yes, "with milk?").await;
    reply(&mut bob, &other, "no").await;

    assert_eq!(replies(&bob, &root).await, ["yes", "with milk?"]);
    assert_eq!(replies(&bob, &other).await, ["no"]);
    assert_eq!(replies(&bob, &yes).await, Vec::<String>::new());
    let shown = get(&mut bob, &root).await;
    assert_eq!((shown.reply_count, shown.last_reply_time.expect("a time").seconds), (2, 3));
    assert_eq!(shown.thread_root_id, "");
    for reply in [&yes, &with] {
        let reply = get(&mut bob, reply).await;
        assert_eq!((reply.thread_root_id.as_str(), reply.reply_count), (root.as_str(), 0));
        assert_eq!(reply.last_reply_time, None);
    }
    let answered = get(&mut bob, &with).await.content.expect("a content").reply_to_message_id;
    assert_eq!(answered, yes);
    // An edit changes nothing of it.
    edit(&mut bob, &yes, "YES").await;
    assert_eq!(replies(&bob, &root).await, ["YES", "with milk?"]);
}

/// B-115.
async fn a_thread_is_read_page_by_page(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let root = send(&mut ann, "lobby", "root").await.message_id;
    for n in 0..12 {
        reply(&mut ann, &root, &n.to_string()).await;
        send(&mut ann, "lobby", "beside it").await;
    }
    let first = page(&ann, &root, 0, "").await.expect("a page");
    assert_eq!(first.replies.len(), 10);
    let rest = page(&ann, &root, 0, &first.next_page_token).await.expect("a page");
    assert_eq!((rest.replies.len(), rest.next_page_token.as_str()), (2, ""));
    let all: Vec<_> = (0..12).map(|n| n.to_string()).collect();
    assert_eq!(replies(&ann, &root).await, all);
    let foreign = page(&world.user("bob"), &root, 0, &first.next_page_token).await;
    violates(foreign.map(tonic::Response::new), "page_token");
}

async fn a_deleted_reply_is_neither_counted_nor_listed(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let root = send(&mut ann, "lobby", "root").await.message_id;
    let one = reply(&mut ann, &root, "one").await;
    world.clock.advance(1_000_000);
    let two = reply(&mut ann, &root, "two").await;
    delete(&mut ann, &two).await;
    delete(&mut ann, &two).await;
    let shown = get(&mut ann, &root).await;
    assert_eq!((shown.reply_count, shown.last_reply_time.expect("a time").seconds), (1, 1));
    assert_eq!(replies(&ann, &root).await, ["one"]);
    delete(&mut ann, &one).await;
    let shown = get(&mut ann, &root).await;
    assert_eq!((shown.reply_count, shown.last_reply_time), (0, None));
    assert_eq!(replies(&ann, &root).await, Vec::<String>::new());
    // The thread outlives the message that it began with.
    reply(&mut ann, &root, "three").await;
    delete(&mut ann, &root).await;
    assert_eq!(replies(&ann, &root).await, ["three"]);
    assert_eq!(get(&mut ann, &root).await.reply_count, 1);
}

async fn a_reply_to_what_is_not_there_is_of_no_thread(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut ann = world.user("ann");
    let message = |seq| parlance_types::MessageId { log_id: room.log_id, seq }.to_string();
    // No event, and one that is no message.
    for to in [message(999), message(1)] {
        let sent = reply(&mut ann, &to, "x").await;
        let shown = get(&mut ann, &sent).await;
        assert_eq!(shown.thread_root_id, "");
        assert_eq!(shown.content.expect("a content").reply_to_message_id, to);
    }
}

async fn the_thread_of_a_reply_stands_in_its_event(db: Db) {
    let world = World::open(db).await;
    let lobby = lobby(&world).await;
    let mut ann = world.user("ann");
    let subscribe = async || world.subscribe(world.user("bob"), from(&lobby, "", 0)).await;
    let mut live = subscribe().await;
    let root = send(&mut ann, "lobby", "root").await;
    let reply_id = reply(&mut ann, &root.message_id, "one").await;
    let told = live.events_until(4).await;
    let roots = |events: &[pb::Event]| -> Vec<String> {
        let sent = |event: &pb::Event| match &event.body {
            Some(Body::MessageSent(sent)) => sent.thread_root_id.clone(),
            other => panic!("{other:?} is no message"),
        };
        events[2..4].iter().map(sent).collect()
    };
    assert_eq!(roots(&told), ["", &root.message_id]);
    assert_eq!(subscribe().await.events_until(4).await, told);
    // A reply that is deleted is still of its thread.
    delete(&mut ann, &reply_id).await;
    assert_eq!(roots(&subscribe().await.events_until(5).await), ["", &root.message_id]);
}

async fn a_repeat_of_a_reply_counts_once(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let root = send(&mut ann, "lobby", "root").await.message_id;
    let request_id = "one".to_owned();
    let request = pb::SendMessageRequest { request_id, ..replying(&root, "one") };
    let first = ann.messages.send_message(request.clone()).await.expect("sent").into_inner();
    let again = ann.messages.send_message(request.clone()).await.expect("again").into_inner();
    assert_eq!(again, first);
    assert_eq!(get(&mut ann, &root).await.reply_count, 1);
    let other = pb::SendMessageRequest { content: Some(text("one")), ..request };
    refused(ann.messages.send_message(other).await, Reason::RequestIdReused);
}

async fn replies_are_shown_as_far_as_the_reader_may_see_them(db: Db) {
    let world = World::open(db).await;
    let lobby = plan("lobby").since_join().owned(&["ann"]).make(&world).await;
    let mut ann = world.user("ann");
    let root = send(&mut ann, "lobby", "root").await.message_id;
    lobby.join("bob").await;
    let shown = reply(&mut ann, &root, "after Bob came").await;
    let (mut bob, message_id) = (world.user("bob"), root.clone());
    let request = pb::GetMessageRequest { message_id };
    refused(bob.messages.get_message(request).await, Reason::MessageNotFound);
    let hidden = page(&bob, &root, 0, "").await.map(tonic::Response::new);
    refused(hidden, Reason::MessageNotFound);
    assert_eq!(get(&mut bob, &shown).await.thread_root_id, root);
    // Of those whom the reader has blocked nothing is shown.
    lobby.join("mia").await;
    let root = send(&mut bob, "lobby", "Bob's").await.message_id;
    reply(&mut ann, &root, "by Ann").await;
    reply(&mut bob, &root, "by Bob").await;
    Own::of(&world, "mia").block("ann", true).await;
    assert_eq!(replies(&world.user("mia"), &root).await, ["by Bob"]);
}

async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_message_call(&world, async |client: Client, message_id: &str| {
        page(&client, message_id, 0, "").await.map(drop)
    })
    .await;
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let root = send(&mut ann, "lobby", "root").await.message_id;
    for bad in bad_message_ids() {
        violates(page(&ann, bad, 0, "").await.map(tonic::Response::new), "message_id");
    }
    violates(page(&ann, &root, -1, "").await.map(tonic::Response::new), "page_size");
    violates(page(&ann, &root, 0, "x").await.map(tonic::Response::new), "page_token");
}

/// Sends, replies and deletes at random; then every thread is what its messages say.
async fn threads_are_what_their_messages_say(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    for seed in 0..3 {
        walk(&mut ann, seed).await;
    }
}

async fn walk(ann: &mut Client, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    // Each message with its root, and whether it is there.
    let mut all: Vec<(String, Option<String>, bool)> = Vec::new();
    for n in 0..60 {
        let at = random.random_range(0..=all.len());
        match all.get(at).cloned() {
            Some((id, ..)) if random.random_bool(0.2) => {
                delete(ann, &id).await;
                all[at].2 = false;
            }
            Some((id, root, _)) => {
                let sent = reply(ann, &id, &n.to_string()).await;
                all.push((sent, Some(root.unwrap_or(id)), true));
            }
            None => all.push((send(ann, "lobby", &n.to_string()).await.message_id, None, true)),
        }
    }
    let mut naive: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, root, _) in all.iter().filter(|(.., there)| *there) {
        naive.entry(root.as_deref().unwrap_or_default()).or_default().push(id);
    }
    for (id, root, _) in &all {
        let shown = get(ann, id).await;
        assert_eq!(shown.thread_root_id, root.clone().unwrap_or_default(), "seed {seed}");
        let expected = naive.get(id.as_str()).cloned().unwrap_or_default();
        let expected = if root.is_none() { expected } else { Vec::new() };
        assert_eq!(usize::try_from(shown.reply_count), Ok(expected.len()), "seed {seed}");
        let listed = page(ann, id, 100, "").await.expect("a page").replies;
        let listed: Vec<_> = listed.iter().map(|reply| reply.message_id.as_str()).collect();
        assert_eq!(listed, expected, "seed {seed}");
    }
}
