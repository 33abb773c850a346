//! Expiry on several nodes, and beside what happens at the same moment.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;
use parlance_types::Seq;
use prost::Message as _;

use super::expiries::{SECOND, differences, lasting, lobby, rest, send_lasting, sweep};
use crate::harness::{World, editing, get, send, unread, words};
use crate::rooms::Room;
use crate::stream::harness::from;
use crate::world::reopen;

test_on_each_db!(parlance_message::MIGRATIONS =>
    janitors_of_two_nodes_delete_each_message_once,
    an_edit_at_the_last_moment_does_not_outlive_its_message,
    a_janitor_that_was_away_for_long_finds_all_of_it,
    a_stream_from_the_beginning_beside_the_janitor_gets_no_content,
    a_message_expires_by_the_time_of_its_log_whatever_the_clocks_say,
);

/// Two nodes over one database, at the same time.
async fn nodes(db: Db) -> [World; 2] {
    let other = reopen(&db).await;
    [World::open(db).await, World::open(other).await]
}

fn pass(nodes: &[World], micros: i64) {
    for node in nodes {
        node.clock.advance(micros);
    }
}

async fn events(world: &World, room: &Room) -> Vec<pb::Event> {
    let stored = world.service.store().events(room.log_id, 1, Seq::MAX).await.expect("events");
    stored.into_iter().map(|it| pb::Event::decode(it.payload).expect("an event")).collect()
}

/// The messages that were deleted, once for each time.
async fn deleted(world: &World, room: &Room) -> Vec<Seq> {
    let events = events(world, room).await.into_iter();
    let deleted = events.filter_map(|event| match event.body {
        Some(Body::MessageDeleted(deleted)) => Some(deleted.message_seq),
        _ => None,
    });
    deleted.collect()
}

async fn janitors_of_two_nodes_delete_each_message_once(db: Db) {
    let nodes = nodes(db).await;
    let room = lobby(&nodes[0]).await;
    let (ann, mut bob) = (nodes[0].user("ann"), nodes[1].user("bob"));
    let sending = (0..60).map(|n| {
        let mut ann = ann.clone();
        async move { send_lasting(&mut ann, &n.to_string(), 60).await.seq }
    });
    let mut sent = join_all(sending).await;
    sent.sort_unstable();
    pass(&nodes, 60 * SECOND);
    join_all((0..6).map(|n| sweep(&nodes[n % 2]))).await;
    let mut deleted = deleted(&nodes[0], &room).await;
    deleted.sort_unstable();
    assert_eq!(deleted, sent);
    assert_eq!((unread(&mut bob).await, differences(&bob).await), (0, vec![]));
}

async fn an_edit_at_the_last_moment_does_not_outlive_its_message(db: Db) {
    let nodes = nodes(db).await;
    let room = lobby(&nodes[0]).await;
    let (mut ann, mut bob) = (nodes[0].user("ann"), nodes[1].user("bob"));
    for round in 0..10 {
        let sent = send_lasting(&mut ann, "a secret", 60).await;
        pass(&nodes, 60 * SECOND - 1);
        let mut editor = ann.clone();
        let editing = editor.messages.edit_message(editing(&sent.message_id, "a secret!"));
        let expiring = async {
            pass(&nodes, 1);
            sweep(&nodes[1]).await;
        };
        let edited = if round % 2 == 0 {
            tokio::join!(editing, expiring).0
        } else {
            tokio::join!(expiring, editing).1
        };
        if let Err(status) = edited {
            assert_eq!(Reason::of(&status), Some(Reason::MessageDeleted));
        }
        let read = get(&mut bob, &sent.message_id).await;
        assert!(words(&read).is_none() && read.delete_seq > 0, "round {round}: {read:?}");
        let left = events(&nodes[0], &room).await;
        assert!(!format!("{left:?}").contains("secret"), "round {round}");
    }
}

async fn a_janitor_that_was_away_for_long_finds_all_of_it(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut ann = world.user("ann");
    for n in 0..70 {
        send_lasting(&mut ann, "a secret", 1 + n).await;
        if n % 10 == 0 {
            send(&mut ann, "lobby", "stays").await;
        }
    }
    rest(&world, true).await;
    world.clock.advance(3600 * SECOND);
    let list = pb::ListMessagesRequest {
        room_id: "lobby".to_owned(),
        page_size: 100,
        ..Default::default()
    };
    let page = ann.messages.list_messages(list).await.expect("a page").into_inner().messages;
    assert_eq!((page.len(), page.iter().filter(|read| words(read).is_some()).count()), (77, 7));
    rest(&world, false).await;
    sweep(&world).await;
    assert_eq!(deleted(&world, &room).await.len(), 70);
    assert_eq!(differences(&world.user("bob")).await, []);
    assert_eq!(unread(&mut world.user("bob")).await, 7);
}

async fn a_stream_from_the_beginning_beside_the_janitor_gets_no_content(db: Db) {
    let nodes = nodes(db).await;
    let room = lobby(&nodes[0]).await;
    let mut ann = nodes[0].user("ann");
    for _ in 0..5 {
        let mut last = 0;
        for _ in 0..30 {
            last = send_lasting(&mut ann, "a secret", 60).await.seq;
        }
        pass(&nodes, 60 * SECOND);
        let reading = nodes.iter().map(|node| {
            let room = &room;
            async move {
                let mut stream = node.subscribe(node.user("bob"), from(room, "", 0)).await;
                stream.events_until(last).await
            }
        });
        let (read, ()) = tokio::join!(join_all(reading), sweep(&nodes[0]));
        assert!(!format!("{read:?}").contains("secret"));
    }
}

async fn a_message_expires_by_the_time_of_its_log_whatever_the_clocks_say(db: Db) {
    let nodes = nodes(db).await;
    lobby(&nodes[0]).await;
    // The clock of the first node is half a minute ahead.
    nodes[0].clock.advance(30 * SECOND);
    let (mut ann, mut bob) = (nodes[0].user("ann"), nodes[1].user("bob"));
    let ahead = send(&mut ann, "lobby", "hello").await.send_time;
    let request = lasting("goes", 60);
    let sent = bob.messages.send_message(request).await.expect("sent").into_inner();
    assert_eq!(sent.send_time, ahead, "times do not go back");
    let read = get(&mut bob, &sent.message_id).await;
    let lasts = read.expire_time.expect("it expires").seconds - ahead.expect("a time").seconds;
    assert_eq!(lasts, 60);
    pass(&nodes, 60 * SECOND);
    // The node whose clock is ahead deletes it, and then it is gone on the other one, too.
    sweep(&nodes[0]).await;
    let read = get(&mut bob, &sent.message_id).await;
    assert!(words(&read).is_none() && read.delete_seq > 0, "{read:?}");
}
