//! Where reactions are shown, on streams and in messages, and where they are no more.

use parlance_db::{Db, test_on_each_db};
use parlance_message::reaction::Reactions;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::MemberRole;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::list_messages_request::Position;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_rpc::Reason;
use parlance_types::{MessageId, Seq};

use super::reactions::{
    Count, add, count, counts, counts_of, list, listed, lobby, of, react, remove, replace,
};
use crate::fact::blocks::until;
use crate::harness::{Client, TENANT, World, delete, edit, refused, send, unread};
use crate::history::clear_for_all::{prune, rows};
use crate::rooms::{Own, Room, plan};
use crate::stream::harness::{all_rooms, from, seqs};

test_on_each_db!(parlance_message::MIGRATIONS =>
    every_answer_that_holds_a_message_has_its_reactions,
    a_reaction_is_not_unread_and_moves_no_room,
    reactions_are_streamed_and_replayed_in_their_place,
    a_stream_passes_over_reactions_of_whom_its_user_has_blocked,
    what_is_cleared_has_no_reactions,
    many_reactions_to_what_is_gone_go_in_chunks,
);

async fn page(client: &Client, position: Option<Position>, preview: bool) -> Vec<Vec<Count>> {
    let room_id = "lobby".to_owned();
    let request = pb::ListMessagesRequest { room_id, position, preview, ..Default::default() };
    let page = client.clone().messages.list_messages(request).await.expect("a page").into_inner();
    page.messages.iter().map(counts_of).collect()
}

/// B-114.
async fn every_answer_that_holds_a_message_has_its_reactions(db: Db) {
    let world = World::open(db).await;
    plan("lobby")
        .member("ann", MemberRole::Owner)
        .members(&["bob"])
        .allow_preview()
        .make(&world)
        .await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let first = send(&mut ann, "lobby", "first").await;
    let second = send(&mut ann, "lobby", "second").await;
    react(&bob, &first.message_id, "tea").await;
    for client in [&ann, &bob] {
        react(client, &second.message_id, "ale").await;
    }
    edit(&mut ann, &second.message_id, "better").await;
    let mut pins = PinServiceClient::new(ann.transport.clone());
    let pin = pb::PinMessageRequest { message_id: first.message_id.clone() };
    pins.pin_message(pin).await.expect("pinned");

    let expected = |tea, ale| vec![vec![count("tea", 1, tea)], vec![count("ale", 2, ale)]];
    for (client, tea, ale) in
        [(&ann, false, true), (&bob, true, true), (&world.backend(), false, false)]
    {
        for position in [
            None,
            Some(Position::BeforeSeq(i64::MAX)),
            Some(Position::AfterSeq(0)),
            Some(Position::AroundSeq(second.seq)),
        ] {
            assert_eq!(page(client, position, false).await, expected(tea, ale), "{position:?}");
        }
        assert_eq!(counts(client, &second.message_id).await, expected(tea, ale)[1]);
        let mut pins = PinServiceClient::new(client.transport.clone());
        let request = pb::ListPinsRequest { room_id: "lobby".to_owned() };
        let pins = pins.list_pins(request).await.expect("pins").into_inner().pins;
        let pinned = pins[0].message.as_ref().expect("a message");
        assert_eq!(counts_of(pinned), expected(tea, ale)[0]);
    }
    assert_eq!(page(&world.user("eve"), None, true).await, expected(false, false));
    for user in ["ann", "bob"] {
        let request = pb::ListUserLogsRequest { user_id: user.to_owned(), ..Default::default() };
        let lists = world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list");
        let last = lists.into_inner().logs.remove(0).last_message.expect("a message");
        assert_eq!(counts_of(&last), expected(false, true)[1]);
    }
}

async fn a_reaction_is_not_unread_and_moves_no_room(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    plan("later").owned(&["ann", "bob"]).make(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    world.clock.advance(1_000_000);
    send(&mut ann, "later", "hello").await;
    world.clock.advance(1_000_000);
    react(&ann, &message_id, "tea").await;
    assert_eq!(unread(&mut bob).await, 2);
    let recount = bob.inbox.recount_unread(pb::RecountUnreadRequest {}).await.expect("counted");
    assert_eq!(recount.into_inner().differences, vec![]);
    let request = pb::ListUserLogsRequest { user_id: "bob".to_owned(), ..Default::default() };
    let lists = world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list");
    let rooms = lists.into_inner().logs.into_iter().map(|log| log.room_id);
    assert_eq!(rooms.collect::<Vec<_>>(), ["later", "lobby"]);
}

/// B-114.
async fn reactions_are_streamed_and_replayed_in_their_place(db: Db) {
    let world = World::open(db).await;
    let (room, message_id) = lobby(&world).await;
    let subscribe = async || world.subscribe(world.user("cas"), from(&room, "", 0)).await;
    let mut live = subscribe().await;
    let bob = world.user("bob");
    for kind in ["tea", "ale"] {
        react(&bob, &message_id, kind).await;
    }
    replace(&bob, &message_id, "gin").await.expect("replaced");
    remove(&bob, &message_id, "gin").await.expect("removed");
    let told = live.events_until(7).await;
    assert_eq!(seqs(&told), [1, 2, 3, 4, 5, 6, 7]);
    assert!(told[3..].iter().all(|event| event.actor_id == "bob"));
    let added = |event: &pb::Event| match &event.body {
        Some(Body::ReactionAdded(added)) => {
            assert_eq!((&added.message_id, added.message_seq), (&message_id, 3));
            (added.kind.clone(), added.replaced_kinds.join(" "))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(added(&told[4]), ("ale".to_owned(), String::new()));
    assert_eq!(added(&told[5]), ("gin".to_owned(), "tea ale".to_owned()));
    let Some(Body::ReactionRemoved(removed)) = &told[6].body else { panic!("{:?}", told[6]) };
    assert_eq!((removed.kind.as_str(), removed.message_seq), ("gin", 3));
    assert_eq!(subscribe().await.events_until(7).await, told);
}

async fn a_stream_passes_over_reactions_of_whom_its_user_has_blocked(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    Own::of(&world, "ann").block("bob", true).await;
    let bob = world.user("bob");
    let first = react(&bob, &message_id, "tea").await;
    remove(&bob, &message_id, "tea").await.expect("removed");
    let last = react(&world.user("cas"), &message_id, "tea").await;
    let all = || all_rooms(pb::StreamStart::FromJoin);
    let mut stream = world.subscribe(world.user("ann"), all()).await;
    let (events, skipped) = until(&mut stream, last).await;
    assert_eq!(events.last_chunk(), Some(&[first - 1, last]));
    assert_eq!(skipped, [(first, first + 1)]);
    let mut stream = world.subscribe(world.user("cas"), all()).await;
    assert_eq!(until(&mut stream, last).await.1, []);
}

async fn what_is_cleared_has_no_reactions(db: Db) {
    let world = World::open(db).await;
    let (room, message_id) = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let kept = send(&mut ann, "lobby", "kept").await.message_id;
    for id in [&message_id, &kept] {
        react(&bob, id, "tea").await;
    }
    // For Bob alone.
    let history = |client: &Client| HistoryServiceClient::new(client.transport.clone());
    let (room_id, through_message_id) = ("lobby".to_owned(), message_id.clone());
    let clear = pb::ClearHistoryRequest { room_id, through_message_id };
    history(&bob).clear_history(clear).await.expect("cleared");
    let gone = async |client: &Client| {
        refused(add(client, &message_id, "ale").await, Reason::MessageNotFound);
        refused(remove(client, &message_id, "tea").await, Reason::MessageNotFound);
        refused(list(client, of(&message_id)).await, Reason::MessageNotFound);
    };
    gone(&bob).await;
    assert_eq!(counts(&ann, &message_id).await, [count("tea", 1, false)]);
    // For all.
    let (room_id, through_message_id) = ("lobby".to_owned(), message_id.clone());
    let request_id = String::new();
    let clear = pb::ClearHistoryForAllRequest { room_id, through_message_id, request_id };
    history(&ann).clear_history_for_all(clear).await.expect("cleared");
    for _ in 0..2 {
        gone(&ann).await;
        assert_eq!(counts(&bob, &kept).await, [count("tea", 1, true)]);
        prune(&world).await;
    }
    assert_eq!(rows(&world, "reactions", room.log_id).await, 1);
    assert_eq!(rows(&world, "reaction_remains", room.log_id).await, 0);
}

/// Reactions of so many more users to a message, as if they had been added.
async fn grow(world: &World, room: &Room, message: Seq, count: i64) {
    let insert = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
        INSERT INTO reactions (log_id, message_seq, reaction_seq, time, user_id, kind)
        SELECT $1, $2, 1000 + n.i, 1, 'user ' || CAST(n.i AS TEXT), 'tea' FROM n";
    let insert = world.service.store().db().write(insert).bind(room.log_id.0).bind(message);
    insert.bind(count).execute().await.expect("filled");
}

async fn many_reactions_to_what_is_gone_go_in_chunks(db: Db) {
    let world = World::open(db).await;
    let (room, message_id) = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let kept = send(&mut ann, "lobby", "kept").await;
    let pruned = message_id.parse::<MessageId>().expect("a message id");
    let deleted = send(&mut ann, "lobby", "deleted").await;
    let last = send(&mut ann, "lobby", "last").await;
    for id in [&message_id, &kept.message_id, &deleted.message_id, &last.message_id] {
        react(&bob, id, "tea").await;
    }
    for seq in [pruned.seq, kept.seq, deleted.seq] {
        grow(&world, &room, seq, 350).await;
    }
    delete(&mut ann, &deleted.message_id).await;
    assert_eq!(listed(&bob, of(&deleted.message_id)).await, []);
    let mut history = HistoryServiceClient::new(ann.transport.clone());
    let (room_id, through_message_id) = ("lobby".to_owned(), message_id.clone());
    let request_id = String::new();
    let clear = pb::ClearHistoryForAllRequest { room_id, through_message_id, request_id };
    history.clear_history_for_all(clear).await.expect("cleared");
    prune(&world).await;
    Reactions::new(world.service.store().clone()).sweep().await.expect("swept");
    assert_eq!(rows(&world, "reaction_remains", room.log_id).await, 0);
    assert_eq!(rows(&world, "reactions", room.log_id).await, 351 + 1);
    assert_eq!(listed(&bob, of(&kept.message_id)).await.len(), 100);
    assert_eq!(counts(&bob, &last.message_id).await, [count("tea", 1, true)]);
}
