//! `ListMentions`, and how many are unread.

use parlance_db::{Db, test_on_each_db};
use parlance_log::Store;
use parlance_message::ON_PRUNE;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::mention_service_client::MentionServiceClient;
use parlance_rpc::Reason;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tonic::{Response, Status};

use crate::harness::{
    Client, TENANT, World, bad_ids, delete, editing, refused, saying, send, text, violates, words,
};
use crate::rights;
use crate::rooms::{Own, Room, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    members_find_what_mentions_them_and_everyone,
    mentions_are_read_page_by_page,
    unread_mentions_are_counted_up_to_a_hundred,
    an_edit_says_anew_whom_its_message_mentions,
    what_is_deleted_or_cleared_mentions_nobody,
    those_who_are_not_members_are_not_mentioned,
    nobody_is_mentioned_by_whom_they_have_blocked,
    strangers_are_refused,
    what_is_wrong_with_a_request_is_named,
    mentions_are_what_their_messages_say,
);

pub(super) async fn lobby(world: &World) -> Room {
    plan("lobby").owned(&["ann", "bob", "mia"]).make(world).await
}

fn calling(words: &str, user_ids: &[&str], everyone: bool) -> pb::MessageContent {
    let user_ids = user_ids.iter().map(ToString::to_string).collect();
    let mentions = Some(pb::Mentions { user_ids, everyone });
    pb::MessageContent { mentions, ..text(words) }
}

/// Mentions users; nobody named is everyone.
pub(super) async fn mention(client: &mut Client, words: &str, users: &[&str]) -> String {
    let content = Some(calling(words, users, users.is_empty()));
    let request = pb::SendMessageRequest { content, ..saying("lobby", "") };
    client.messages.send_message(request).await.expect("sent").into_inner().message_id
}

pub(super) async fn page(
    client: &Client,
    room_id: &str,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListMentionsResponse, Status> {
    let (room_id, page_token) = (room_id.to_owned(), page_token.to_owned());
    let request = pb::ListMentionsRequest { room_id, page_size, page_token };
    let mut mentions = MentionServiceClient::new(client.transport.clone());
    Ok(mentions.list_mentions(request).await?.into_inner())
}

/// The words of all mentions, read in small pages.
async fn listed(client: &Client) -> Vec<String> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = page(client, "lobby", 2, &token).await.expect("a page");
        all.extend(page.messages.iter().map(|found| words(found).expect("words").to_owned()));
        token = page.next_page_token;
        if token.is_empty() {
            return all;
        }
    }
}

/// How many mentions are unread, as GetUnread says in both its ways, and the list.
pub(super) async fn unread(world: &World, client: &Client, user_id: &str) -> i32 {
    let room_ids = vec!["lobby".to_owned()];
    let mut found = Vec::new();
    for these_only in [false, true] {
        let request = pb::GetUnreadRequest { room_ids: room_ids.clone(), these_only };
        let unread = client.clone().inbox.get_unread(request).await.expect("unread").into_inner();
        found.push(unread.rooms[0].mentions);
    }
    let request = pb::ListUserLogsRequest { user_id: user_id.to_owned(), ..Default::default() };
    let logs = world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list");
    let logs = logs.into_inner().logs;
    found.extend(logs.iter().filter(|log| log.room_id == "lobby").map(|log| log.mentions));
    assert!(found.len() == 3 && found.iter().all(|count| *count == found[0]), "{found:?}");
    found[0]
}

async fn members_find_what_mentions_them_and_everyone(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, mut bob, mia) = (world.user("ann"), world.user("bob"), world.user("mia"));
    mention(&mut ann, "Bob?", &["bob"]).await;
    send(&mut ann, "lobby", "nobody").await;
    mention(&mut ann, "Bob and Mia?", &["bob", "mia"]).await;
    mention(&mut world.backend(), "all of you!", &[]).await;
    assert_eq!(listed(&bob).await, ["all of you!", "Bob and Mia?", "Bob?"]);
    assert_eq!(listed(&mia).await, ["all of you!", "Bob and Mia?"]);
    assert_eq!(listed(&ann).await, ["all of you!"]);
    assert_eq!(unread(&world, &bob, "bob").await, 3);
    assert_eq!(unread(&world, &mia, "mia").await, 2);
    assert_eq!(unread(&world, &ann, "ann").await, 1);
    // Reading up to one leaves those behind it.
    let second = page(&bob, "lobby", 0, "").await.expect("a page").messages[1].seq;
    let request = pb::MarkReadRequest { room_id: "lobby".to_owned(), seq: second };
    bob.marks.mark_read(request).await.expect("marked");
    assert_eq!(unread(&world, &bob, "bob").await, 1);
    // Answering is reading.
    send(&mut bob, "lobby", "yes?").await;
    assert_eq!(unread(&world, &bob, "bob").await, 0);
    // Whoever calls on everyone is not called themselves, but finds it.
    mention(&mut bob, "everyone!", &[]).await;
    assert_eq!(unread(&world, &bob, "bob").await, 0);
    assert_eq!(listed(&bob).await.len(), 4);
}

async fn mentions_are_read_page_by_page(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    for n in 0..12 {
        let users: &[&str] = if n % 2 == 0 { &["bob"] } else { &[] };
        mention(&mut ann, &n.to_string(), users).await;
    }
    let first = page(&bob, "lobby", 0, "").await.expect("a page");
    assert_eq!(first.messages.len(), 10);
    // What comes meanwhile is not on the pages before it.
    mention(&mut ann, "new", &["bob"]).await;
    let rest = page(&bob, "lobby", 0, &first.next_page_token).await.expect("a page");
    assert_eq!((rest.messages.len(), rest.next_page_token.as_str()), (2, ""));
    let all: Vec<_> = (0..12).rev().map(|n| n.to_string()).collect();
    assert_eq!(listed(&bob).await[1..], all);
    let foreign = page(&ann, "lobby", 0, &first.next_page_token).await;
    violates(foreign.map(Response::new), "page_token");
}

async fn unread_mentions_are_counted_up_to_a_hundred(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    for n in 0..99 {
        mention(&mut ann, &n.to_string(), if n % 2 == 0 { &["bob"] } else { &[] }).await;
    }
    assert_eq!(unread(&world, &bob, "bob").await, 99);
    for n in 0..3 {
        mention(&mut ann, &n.to_string(), &["bob"]).await;
    }
    assert_eq!(unread(&world, &bob, "bob").await, 100);
}

async fn an_edit_says_anew_whom_its_message_mentions(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, bob, mia) = (world.user("ann"), world.user("bob"), world.user("mia"));
    let message_id = mention(&mut ann, "Bob?", &["bob"]).await;
    let content = Some(calling("Mia?", &["mia"], false));
    let request = pb::EditMessageRequest { content, ..editing(&message_id, "") };
    ann.messages.edit_message(request).await.expect("edited");
    assert_eq!((listed(&bob).await.len(), listed(&mia).await), (0, vec!["Mia?".to_owned()]));
    assert_eq!((unread(&world, &bob, "bob").await, unread(&world, &mia, "mia").await), (0, 1));
    ann.messages.edit_message(editing(&message_id, "nobody")).await.expect("edited");
    assert_eq!(unread(&world, &mia, "mia").await, 0);
}

async fn what_is_deleted_or_cleared_mentions_nobody(db: Db) {
    let world = World::open(db.clone()).await;
    let room = lobby(&world).await;
    let (mut ann, bob, mia) = (world.user("ann"), world.user("bob"), world.user("mia"));
    let one = mention(&mut ann, "one", &["bob"]).await;
    mention(&mut ann, "two", &[]).await;
    mention(&mut ann, "three", &["bob", "mia"]).await;
    delete(&mut ann, &one).await;
    assert_eq!(listed(&bob).await, ["three", "two"]);
    assert_eq!(unread(&world, &bob, "bob").await, 2);
    let clear = pb::ClearHistoryRequest { room_id: "lobby".to_owned(), ..Default::default() };
    HistoryServiceClient::new(bob.transport.clone()).clear_history(clear).await.expect("cleared");
    assert_eq!(listed(&bob).await, Vec::<String>::new());
    assert_eq!(unread(&world, &bob, "bob").await, 0);
    assert_eq!(unread(&world, &mia, "mia").await, 2);
    let clear = pb::ClearHistoryForAllRequest { room_id: "lobby".to_owned(), ..Default::default() };
    let mut history = HistoryServiceClient::new(ann.transport.clone());
    history.clear_history_for_all(clear).await.expect("cleared");
    assert_eq!(listed(&mia).await, Vec::<String>::new());
    assert_eq!(unread(&world, &mia, "mia").await, 0);
    // Their rows go, too.
    AsRef::<Store>::as_ref(&world).prune(ON_PRUNE).await.expect("pruned");
    let count = "SELECT COUNT(*) FROM mentions WHERE log_id = $1";
    let (count,): (i64,) = db.read(count).bind(room.log_id.0).fetch_one().await.expect("a count");
    assert_eq!(count, 0);
}

async fn those_who_are_not_members_are_not_mentioned(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, bob, eve) = (world.user("ann"), world.user("bob"), world.user("eve"));
    room.leave("bob").await;
    mention(&mut ann, "Bob and Eve?", &["bob", "eve", "nobody at all"]).await;
    for user in ["bob", "eve"] {
        room.join(user).await;
    }
    assert_eq!(listed(&bob).await, Vec::<String>::new());
    assert_eq!(listed(&eve).await, Vec::<String>::new());
    // What was said before a join is not unread.
    mention(&mut ann, "now", &["eve"]).await;
    assert_eq!((unread(&world, &eve, "eve").await, unread(&world, &bob, "bob").await), (1, 0));
}

async fn nobody_is_mentioned_by_whom_they_have_blocked(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, bob, mut mia) = (world.user("ann"), world.user("bob"), world.user("mia"));
    mention(&mut ann, "by Ann", &["bob"]).await;
    mention(&mut ann, "by Ann to all", &[]).await;
    mention(&mut mia, "by Mia", &["bob"]).await;
    let bobs = Own::of(&world, "bob");
    bobs.block("ann", true).await;
    assert_eq!(listed(&bob).await, ["by Mia"]);
    assert_eq!(unread(&world, &bob, "bob").await, 1);
    bobs.block("ann", false).await;
    assert_eq!(unread(&world, &bob, "bob").await, 3);
}

async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |client: Client, room: &str| {
        page(&client, room, 0, "").await.map(drop)
    })
    .await;
    refused(
        page(&world.backend(), "r-group", 0, "").await.map(Response::new),
        Reason::UserRequired,
    );
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    for bad in bad_ids() {
        violates(page(&ann, &bad, 0, "").await.map(Response::new), "room_id");
        let content = Some(calling("x", &["bob", &bad], false));
        let request = pb::SendMessageRequest { content, ..saying("lobby", "") };
        violates(ann.messages.send_message(request).await, "content.mentions.user_ids[1]");
    }
    let many: Vec<String> = (0..51).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (users, field) in [(&many[..], ""), (&["bob", "bob"], "[1]")] {
        let content = Some(calling("x", users, false));
        let request = pb::SendMessageRequest { content, ..saying("lobby", "") };
        let field = format!("content.mentions.user_ids{field}");
        violates(ann.messages.send_message(request).await, &field);
    }
    violates(page(&ann, "lobby", -1, "").await.map(Response::new), "page_size");
    violates(page(&ann, "lobby", 0, "x").await.map(Response::new), "page_token");
}

/// Mentions, reads, edits and deletes at random; then each count is what the messages say.
async fn mentions_are_what_their_messages_say(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        // Each message with its seq, and whether it mentions Bob; None: it is deleted.
        let mut all: Vec<(String, i64, Option<bool>)> = Vec::new();
        let mut read = 0;
        for n in 0..60 {
            let whom: [&[&str]; 3] = [&["bob"], &["mia"], &[]];
            let whom = whom[random.random_range(0..3)];
            let content = Some(calling(&n.to_string(), whom, whom.is_empty()));
            let bobs = whom != ["mia"];
            let at = if all.is_empty() { 0 } else { random.random_range(0..all.len()) };
            match random.random_range(0..6) {
                0 if !all.is_empty() => {
                    delete(&mut ann, &all[at].0).await;
                    all[at].2 = None;
                }
                1 if all.get(at).is_some_and(|(.., there)| there.is_some()) => {
                    let request = pb::EditMessageRequest { content, ..editing(&all[at].0, "") };
                    ann.messages.edit_message(request).await.expect("edited");
                    all[at].2 = Some(bobs);
                }
                2 if !all.is_empty() => {
                    read = read.max(all[at].1);
                    let request =
                        pb::MarkReadRequest { room_id: "lobby".to_owned(), seq: all[at].1 };
                    bob.marks.mark_read(request).await.expect("marked");
                }
                _ => {
                    let request = pb::SendMessageRequest { content, ..saying("lobby", "") };
                    let sent = ann.messages.send_message(request).await.expect("sent").into_inner();
                    all.push((sent.message_id, sent.seq, Some(bobs)));
                }
            }
            let naive = all.iter().filter(|(_, seq, bobs)| *bobs == Some(true) && *seq > read);
            let naive = i32::try_from(naive.count()).expect("few");
            assert_eq!(unread(&world, &bob, "bob").await, naive, "seed {seed}, step {n}");
        }
        let request = pb::MarkAllReadRequest { room_id: "lobby".to_owned() };
        bob.marks.mark_all_read(request).await.expect("marked");
    }
}
