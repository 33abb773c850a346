//! Reactions at once, and counts against what the events say.

use std::collections::BTreeMap;

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;
use parlance_types::{LogId, Seq};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::reactions::{Count, add, count, counts, listed, lobby, of, react, remove, replace};
use crate::harness::{Client, World, delete, send};
use crate::rooms::group;
use crate::world::reopen;

test_on_each_db!(parlance_message::MIGRATIONS =>
    one_reaction_many_times_at_once_on_two_nodes_is_one_event,
    replacements_at_once_leave_one_reaction,
    a_user_who_reacts_at_once_has_8_reactions,
    reactions_beside_a_deletion_do_not_outlive_it,
    counts_are_what_the_events_say_whatever_happens,
);

/// Two nodes over one database.
async fn nodes(db: Db) -> [World; 2] {
    let other = reopen(&db).await;
    [World::open(db).await, World::open(other).await]
}

async fn one_reaction_many_times_at_once_on_two_nodes_is_one_event(db: Db) {
    let nodes = nodes(db).await;
    let (room, message_id) = lobby(&nodes[0]).await;
    let bobs = nodes.each_ref().map(|node| node.user("bob"));
    for round in 0..5 {
        let adding = (0..20).map(|n| react(&bobs[n % 2], &message_id, "tea"));
        let places = join_all(adding).await;
        let first = 4 + 2 * round;
        assert_eq!(places, [first; 20]);
        for bob in &bobs {
            assert_eq!(counts(bob, &message_id).await, [count("tea", 1, true)]);
        }
        let removing = (0..20).map(|n| remove(&bobs[n % 2], &message_id, "tea"));
        for removed in join_all(removing).await {
            removed.expect("removed");
        }
        assert_eq!(counts(&bobs[0], &message_id).await, []);
    }
    let events = events(&nodes[0], room.log_id).await;
    assert_eq!(events.len(), 3 + 10);
}

async fn replacements_at_once_leave_one_reaction(db: Db) {
    let nodes = nodes(db).await;
    let (_, message_id) = lobby(&nodes[0]).await;
    let bobs = nodes.each_ref().map(|node| node.user("bob"));
    for _ in 0..5 {
        let kinds: Vec<_> = (0..10).map(|n| n.to_string()).collect();
        let replacing = kinds.iter().zip(bobs.iter().cycle());
        let replacing = replacing.map(|(kind, bob)| replace(bob, &message_id, kind));
        let places = join_all(replacing).await.into_iter();
        let places = places.map(|place| place.expect("replaced").into_inner().reaction_seq);
        let (last, kind) = places.zip(&kinds).max().expect("ten");
        assert_eq!(counts(&bobs[0], &message_id).await, [count(kind, 1, true)]);
        let expected = ("bob".to_owned(), kind.clone(), last);
        assert_eq!(listed(&bobs[1], of(&message_id)).await, [expected]);
    }
}

async fn a_user_who_reacts_at_once_has_8_reactions(db: Db) {
    let nodes = nodes(db).await;
    let (_, message_id) = lobby(&nodes[0]).await;
    let bobs = nodes.each_ref().map(|node| node.user("bob"));
    let kinds: Vec<_> = (0..12).map(|n| n.to_string()).collect();
    let adding = kinds.iter().zip(bobs.iter().cycle());
    let added = join_all(adding.map(|(kind, bob)| add(bob, &message_id, kind))).await;
    let (added, over): (Vec<_>, Vec<_>) = added.into_iter().partition(Result::is_ok);
    assert_eq!((added.len(), over.len()), (8, 4));
    for refused in over {
        assert_eq!(Reason::of(&refused.expect_err("over")), Some(Reason::TooManyReactions));
    }
    assert_eq!(counts(&bobs[0], &message_id).await.len(), 8);
}

async fn reactions_beside_a_deletion_do_not_outlive_it(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    for round in 0..20 {
        let message_id = send(&mut ann, "lobby", "hello").await.message_id;
        let adding = add(&bob, &message_id, "tea");
        let added = if round % 2 == 0 {
            tokio::join!(adding, delete(&mut ann, &message_id)).0
        } else {
            tokio::join!(delete(&mut ann, &message_id), adding).1
        };
        if let Err(status) = added {
            assert_eq!(Reason::of(&status), Some(Reason::MessageDeleted));
        }
        assert_eq!(counts(&bob, &message_id).await, [], "round {round}");
        assert_eq!(listed(&bob, of(&message_id)).await, [], "round {round}");
    }
}

async fn events(world: &World, log_id: LogId) -> Vec<pb::Event> {
    let stored = world.service.store().events(log_id, 1, Seq::MAX).await.expect("events");
    let event = |stored: parlance_log::StoredEvent| pb::Event {
        seq: stored.seq,
        ..pb::Event::decode(stored.payload).expect("an event")
    };
    stored.into_iter().map(event).collect()
}

/// Who reacted to a message how, and where, in the order of the events.
type Folded = Vec<(String, String, Seq)>;

/// What a client makes of the events of a log, for each message that is not deleted.
fn fold(events: Vec<pb::Event>) -> BTreeMap<Seq, Folded> {
    let mut folded: BTreeMap<Seq, Folded> = BTreeMap::new();
    for event in events {
        let (seq, user) = (event.seq, event.actor_id);
        match event.body.expect("a body") {
            Body::MessageSent(_) => drop(folded.insert(seq, Vec::new())),
            Body::MessageDeleted(deleted) => drop(folded.remove(&deleted.message_seq)),
            Body::ReactionAdded(added) => {
                let Some(of) = folded.get_mut(&added.message_seq) else { continue };
                let replaced = |kind: &String| added.replaced_kinds.contains(kind);
                let before = of.len();
                of.retain(|(by, kind, _)| *by != user || !replaced(kind));
                assert_eq!(before - of.len(), added.replaced_kinds.len());
                assert!(!of.iter().any(|(by, kind, _)| *by == user && *kind == added.kind));
                of.push((user, added.kind, seq));
            }
            Body::ReactionRemoved(removed) => {
                let Some(of) = folded.get_mut(&removed.message_seq) else { continue };
                let before = of.len();
                of.retain(|(by, kind, _)| *by != user || *kind != removed.kind);
                assert_eq!(before - of.len(), 1);
            }
            _ => {}
        }
    }
    folded
}

/// The counts that a user is to see.
fn counted(folded: &Folded, viewer: &str) -> Vec<Count> {
    let mut counts: Vec<Count> = Vec::new();
    for (user, kind, _) in folded {
        let own = user == viewer;
        match counts.iter_mut().find(|(of, ..)| of == kind) {
            Some((_, count, owned)) => {
                *count += 1;
                *owned |= own;
            }
            None => counts.push(count(kind, 1, own)),
        }
    }
    counts.sort();
    counts
}

/// What users do to a message: they react, or one deletes it.
async fn step(clients: &[Client], message_id: &str, random: &mut StdRng) {
    const KINDS: [&str; 4] = ["tea", "ale", "gin", "rum"];
    let user = clients.choose(random).expect("users").clone();
    let kind = KINDS.choose(random).expect("kinds");
    let refused = match random.random_range(0..20) {
        0..=9 => add(&user, message_id, kind).await.err(),
        10..=12 => replace(&user, message_id, kind).await.err(),
        13..=18 => remove(&user, message_id, kind).await.err(),
        _ => {
            delete(&mut clients[0].clone(), message_id).await;
            None
        }
    };
    if let Some(status) = refused {
        assert_eq!(Reason::of(&status), Some(Reason::MessageDeleted), "{status:?}");
    }
}

async fn counts_are_what_the_events_say_whatever_happens(db: Db) {
    const USERS: [&str; 3] = ["ann", "bob", "cas"];
    let nodes = nodes(db).await;
    for seed in 0..4 {
        let room_id = seed.to_string();
        let room = group(&nodes[0], &room_id, &USERS).await;
        let clients = nodes.each_ref().map(|node| USERS.map(|user| node.user(user)));
        let mut messages = Vec::new();
        for _ in 0..4 {
            let sent = send(&mut clients[0][0].clone(), &room_id, "hello").await;
            messages.push((sent.seq, sent.message_id));
        }
        // Both nodes go on at once, each as its own seed has it.
        let walks = clients.iter().zip(0_u64..).map(|(clients, node)| {
            let messages = &messages;
            async move {
                let mut random = StdRng::seed_from_u64(2 * seed + node);
                for _ in 0..40 {
                    let (_, message_id) = messages.choose(&mut random).expect("messages");
                    step(clients, message_id, &mut random).await;
                }
            }
        });
        join_all(walks).await;
        let folded = fold(events(&nodes[0], room.log_id).await);
        for (seq, message_id) in &messages {
            let folded = folded.get(seq).cloned().unwrap_or_default();
            for (client, user) in clients[1].iter().zip(USERS) {
                let mut seen = counts(client, message_id).await;
                seen.sort();
                assert_eq!(seen, counted(&folded, user), "seed {seed}, message {seq}");
            }
            assert_eq!(listed(&clients[0][0], of(message_id)).await, folded, "seed {seed}");
        }
    }
}
