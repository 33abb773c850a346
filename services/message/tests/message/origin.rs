//! Messages that were sent elsewhere, and are brought in.

use parlance_db::{Db, test_on_each_db};
use parlance_log::FOR_EVER;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{LogRules, MemberRole, PostRule};
use parlance_rpc::{Principal, Reason};
use parlance_types::Micros;

use super::send_messages::send_messages;
use crate::expiry::expiries::differences;
use crate::harness::{
    Client, TENANT, World, edit, editing, get, refused, saying, send, text, unread, violates, words,
};
use crate::rooms::{Own, Room, plan};
use crate::stream::harness::from;

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_backend_brings_in_what_members_and_others_sent_elsewhere,
    history_is_judged_by_no_rule_and_moves_no_marks,
    what_counts_is_unread_for_all_but_its_sender,
    history_calls_on_nobody_unless_it_counts,
    a_repeat_gets_the_first_reply,
    many_are_brought_in_through_one_stream_in_order,
    only_callers_who_act_for_nobody_bring_in,
    what_is_wrong_with_an_origin_is_named,
);

const HOUR: Micros = 3_600_000_000;

/// A group of Ann's with Bob in it, after an hour.
async fn lobby(world: &World) -> Room {
    world.clock.advance(HOUR);
    plan("lobby").owned(&["ann", "bob"]).make(world).await
}

const fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

/// A message that somebody sent elsewhere, at a second.
fn of_elsewhere(sender: &str, words: &str, seconds: i64, counted: bool) -> pb::SendMessageRequest {
    let (time, sender_id) = (Some(at(seconds)), sender.to_owned());
    let origin = Some(pb::Origin { time, sender_id, counted });
    pb::SendMessageRequest { origin, ..saying("lobby", words) }
}

async fn bring(client: &mut Client, request: pb::SendMessageRequest) -> pb::SendMessageResponse {
    client.messages.send_message(request).await.expect("brought in").into_inner()
}

async fn a_backend_brings_in_what_members_and_others_sent_elsewhere(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut bob, mut backend) = (world.user("bob"), world.backend());
    let now = send(&mut bob, "lobby", "what is new?").await;
    for (sender, seconds) in [("ann", 70), ("zed", 60), ("", 0)] {
        let request = of_elsewhere(sender, "old", seconds, false);
        let sent = bring(&mut backend, request).await;
        let read = get(&mut bob, &sent.message_id).await;
        assert_eq!((read.sender_id.as_str(), words(&read)), (sender, Some("old")));
        // Order and time are the log's.
        assert_eq!((read.origin_time, read.send_time), (Some(at(seconds)), now.send_time));
        assert!(read.uncounted && read.seq > now.seq);
        let mut stream = world.subscribe(bob.clone(), from(&room, "", 0)).await;
        let event = stream.events_until(sent.seq).await.pop().expect("an event");
        assert_eq!(event.actor_id, sender);
        let Some(Body::MessageSent(told)) = event.body else { panic!("a message") };
        assert_eq!(told.origin_time, Some(at(seconds)));
    }
    assert_eq!(get(&mut bob, &now.message_id).await.origin_time, None);
    // What is a member's is theirs to edit, and keeps where it comes from.
    let sent = bring(&mut backend, of_elsewhere("bob", "old", 60, false)).await;
    edit(&mut bob, &sent.message_id, "Old").await;
    assert_eq!(get(&mut bob, &sent.message_id).await.origin_time, Some(at(60)));
    let of_backend = backend.messages.edit_message(editing(&sent.message_id, "x")).await;
    refused(of_backend, Reason::NotTheSender);
    let mut operator = world.client(TENANT, Principal::Operator);
    bring(&mut operator, of_elsewhere("ann", "old", 60, false)).await;
}

async fn history_is_judged_by_no_rule_and_moves_no_marks(db: Db) {
    let world = World::open(db).await;
    world.clock.advance(HOUR);
    let room = plan("lobby").owned(&["ann"]).member("bob", MemberRole::Member).make(&world).await;
    let (mut ann, mut bob, mut backend) = (world.user("ann"), world.user("bob"), world.backend());
    send(&mut ann, "lobby", "one").await;
    let slow_mode = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let post = PostRule::Admins.into();
    room.set_rules(LogRules { post, slow_mode, ..LogRules::default() }).await;
    Own::of(&world, "bob").suspend(FOR_EVER).await;
    refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Suspended);
    for counted in [false, false, true] {
        bring(&mut backend, of_elsewhere("bob", "old", 60, counted)).await;
    }
    bring(&mut backend, of_elsewhere("ann", "old", 60, false)).await;
    assert_eq!((unread(&mut ann).await, differences(&ann).await), (1, vec![]));
    room.close().await;
    let late = of_elsewhere("ann", "old", 60, false);
    refused(backend.messages.send_message(late).await, Reason::RoomNotFound);
}

async fn what_counts_is_unread_for_all_but_its_sender(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, mut bob, mut backend) = (world.user("ann"), world.user("bob"), world.backend());
    send(&mut ann, "lobby", "one").await;
    for (sender, counted, of_ann, of_bob) in [
        ("ann", false, 0, 1),
        ("zed", true, 1, 2),
        ("zed", false, 1, 2),
        ("ann", true, 0, 3),
        ("bob", false, 0, 3),
        ("bob", true, 1, 0),
        ("", true, 2, 1),
    ] {
        bring(&mut backend, of_elsewhere(sender, "old", 60, counted)).await;
        let found = (unread(&mut ann).await, unread(&mut bob).await);
        assert_eq!(found, (of_ann, of_bob), "{sender}, {counted}");
        assert_eq!((differences(&ann).await, differences(&bob).await), (vec![], vec![]));
    }
}

async fn history_calls_on_nobody_unless_it_counts(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut bob = world.user("bob");
    for (counted, calls) in [(false, 0), (true, 1)] {
        let mentions = Some(pb::Mentions { user_ids: vec!["bob".to_owned()], everyone: false });
        let content = Some(pb::MessageContent { mentions, ..text("Bob?") });
        let request = of_elsewhere("ann", "", 60, counted);
        bring(&mut world.backend(), pb::SendMessageRequest { content, ..request }).await;
        let room_ids = vec!["lobby".to_owned()];
        let request = pb::GetUnreadRequest { room_ids, these_only: true };
        let found = bob.inbox.get_unread(request).await.expect("unread").into_inner();
        assert_eq!(found.rooms[0].mentions, calls);
    }
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, mut backend) = (world.user("ann"), world.backend());
    let once = |request: pb::SendMessageRequest| {
        let request_id = "once".to_owned();
        pb::SendMessageRequest { request_id, ..request }
    };
    let first = bring(&mut backend, once(of_elsewhere("ann", "old", 60, false))).await;
    let again = bring(&mut backend, once(of_elsewhere("ann", "old", 60, false))).await;
    assert_eq!(again, first);
    let other = once(of_elsewhere("ann", "old", 61, false));
    refused(backend.messages.send_message(other).await, Reason::RequestIdReused);
    // A request id of hers is another one, and so is that of what somebody else sent.
    let own = ann.messages.send_message(once(saying("lobby", "mine"))).await.expect("sent");
    let of_zed = bring(&mut backend, once(of_elsewhere("zed", "old", 60, false))).await;
    assert_eq!((own.into_inner().seq, of_zed.seq), (first.seq + 1, first.seq + 2));
}

async fn many_are_brought_in_through_one_stream_in_order(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let bringing = (0..100).map(|n: usize| {
        let sender = ["ann", "bob", "zed"][n % 3];
        let seconds = i64::try_from(n).expect("few");
        let request = of_elsewhere(sender, &n.to_string(), seconds, false);
        pb::SendMessageRequest { request_id: n.to_string(), ..request }
    });
    let sent = send_messages(&mut world.backend(), bringing.collect()).await;
    let seqs: Vec<_> = sent.iter().map(|sent| sent.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
    let list = pb::ListMessagesRequest {
        room_id: "lobby".to_owned(),
        page_size: 100,
        ..Default::default()
    };
    let page = world.user("ann").messages.list_messages(list).await.expect("a page").into_inner();
    let times = page.messages.iter().map(|read| read.origin_time.expect("a time").seconds);
    assert!(times.eq(0..100));
}

async fn only_callers_who_act_for_nobody_bring_in(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    for mut client in [world.user("ann"), world.service_for("ann")] {
        let request = of_elsewhere("ann", "old", 60, false);
        refused(client.messages.send_message(request).await, Reason::NotAllowed);
    }
    let mut stranger = world.client("zeta", Principal::Service);
    let request = of_elsewhere("ann", "old", 60, false);
    refused(stranger.messages.send_message(request).await, Reason::RoomNotFound);
}

async fn what_is_wrong_with_an_origin_is_named(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut backend = world.backend();
    // It is 3601.5 s.
    bring(&mut backend, of_elsewhere("ann", "old", 3601, false)).await;
    for (time, sender_id, field) in [
        (Some(at(3602)), "ann", "origin.time"),
        (None, "ann", "origin.time"),
        (Some(prost_types::Timestamp { seconds: 1, nanos: -1 }), "ann", "origin.time"),
        (Some(at(60)), "a\0b", "origin.sender_id"),
    ] {
        let origin = Some(pb::Origin { time, sender_id: sender_id.to_owned(), counted: false });
        let request = pb::SendMessageRequest { origin, ..saying("lobby", "old") };
        violates(backend.messages.send_message(request).await, field);
    }
}
