//! Users who have blocked the other member of a direct room, who is told nothing of it.

use std::time::Duration;

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_log::Store;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::MemberRole;
use parlance_proto::message::v1::notice::Notice as Told;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::Reason;
use parlance_types::Seq;

use super::blocks::{direct, line, list, page, texts, until};
use crate::harness::{TENANT, World, delete, edit, get, refused, send, unread};
use crate::rooms::{Own, Room, plan};
use crate::stream::harness::{all_rooms, latest, node, node_with, quick};
use crate::world::{World as Logs, draft, reopen};

test_on_each_db!(parlance_message::MIGRATIONS =>
    who_is_blocked_silently_writes_and_nobody_else_sees_it,
    nobody_is_told_that_they_type,
    streams_pass_over_it_whichever_log_is_told_first,
    a_stream_on_another_node_learns_of_it_without_a_hint,
    what_is_said_of_a_user_later_leaves_it_as_it_is,
    who_comes_back_sees_what_they_are_told_to_see,
    sends_in_flight_are_hidden_once_the_block_is_applied,
    a_fact_of_a_group_hides_nothing,
);

/// Ann blocks Bob, who is told nothing of it, or unblocks him.
async fn hide(room: &Room, own: &Own, hidden: bool) {
    room.hide_peer("bob", hidden).await;
    if hidden {
        own.hide("bob").await
    } else {
        own.block("bob", false).await
    };
}

/// B-159.
async fn who_is_blocked_silently_writes_and_nobody_else_sees_it(db: Db) {
    let world = World::open(db).await;
    let room = direct(&world).await;
    plan("lobby").owned(&["ann", "bob"]).make(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let before = send(&mut bob, "pair", "before").await;
    send(&mut ann, "pair", "of ann").await;
    assert_eq!(unread(&mut ann).await, 0, "sending is reading");
    let own = Own::of(&world, "ann");
    hide(&room, &own, true).await;

    let sent = send(&mut bob, "pair", "meanwhile").await;
    edit(&mut bob, &before.message_id, "edited").await;
    send(&mut bob, "lobby", "in the lobby").await;
    let mut pins = PinServiceClient::new(bob.transport.clone());
    let pin = pb::PinMessageRequest { message_id: sent.message_id.clone() };
    pins.pin_message(pin).await.expect("he is refused nothing");
    assert_eq!(texts(&page(&mut bob, "pair", 10).await), ["edited", "of ann", "meanwhile"]);
    assert_eq!(texts(&page(&mut ann, "pair", 10).await), ["of ann"]);
    let hidden = pb::GetMessageRequest { message_id: sent.message_id.clone() };
    refused(ann.messages.get_message(hidden).await, Reason::MessageNotFound);
    let of_ann = pb::ListPinsRequest { room_id: "pair".to_owned() };
    let of_ann = PinServiceClient::new(ann.transport.clone()).list_pins(of_ann).await;
    assert!(of_ann.expect("pins").into_inner().pins.is_empty());
    assert_eq!(unread(&mut ann).await, 0);
    assert_eq!(list(&world, "ann", false).await, [line("pair", "of ann", 0)]);
    assert_eq!(unread(&mut bob).await, 0);
    send(&mut ann, "pair", "of ann, too").await;
    assert_eq!(unread(&mut bob).await, 1);
    let recount = ann.inbox.recount_unread(pb::RecountUnreadRequest {}).await.expect("counted");
    let recount = recount.into_inner();
    assert_eq!((recount.total, recount.differences.len()), (0, 0));

    // Unblocking shows all of it.
    hide(&room, &own, false).await;
    let seen = ["edited", "of ann", "meanwhile", "of ann, too"];
    assert_eq!(texts(&page(&mut ann, "pair", 10).await), seen);
    get(&mut ann, &sent.message_id).await;
    delete(&mut bob, &sent.message_id).await;
}

async fn nobody_is_told_that_they_type(db: Db) {
    let node = node(&db).await;
    let room = plan("r").kind(pb::RoomKind::Direct).members(&["ann", "bob"]).make(&node).await;
    let mut ann = node.follow("ann").await;
    node.typing(&room, "bob", Duration::from_mins(5)).await;
    let Frame::Notice(first) = ann.next().await else { panic!("a notice") };
    assert!(matches!(first.notice, Some(Told::Typing(typing)) if typing.typing));
    hide(&room, &Own::of(&node, "ann"), true).await;
    node.typing(&room, "bob", Duration::from_mins(5)).await;
    let seq = node.send(&room, "on").await;
    assert_eq!(ann.event().await.seq, seq);
}

/// Ann's streams that begin before, between and after the two facts.
async fn streams_pass_over_it_whichever_log_is_told_first(db: Db) {
    for own_first in [true, false] {
        let world = World::open(reopen(&db).await).await;
        let name = format!("pair {own_first}");
        let room = plan(&name).kind(pb::RoomKind::Direct).members(&["ann", "bob"]).make(&world);
        let room = room.await;
        let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
        let own = Own::of(&world, "ann");
        let stream = || world.subscribe(world.user("ann"), latest(&[&name]));
        let mut readers = vec![stream().await];
        readers[0].all_caught_up(1).await;
        let facts = async |own_log: bool| {
            if own_log {
                own.hide("bob").await;
            } else {
                room.hide_peer("bob", true).await;
            }
        };
        facts(own_first).await;
        readers.push(stream().await);
        readers[1].all_caught_up(1).await;
        facts(!own_first).await;
        readers.push(stream().await);
        for mut reader in readers {
            loop {
                let hidden = send(&mut bob, &name, "x").await;
                let seq = send(&mut ann, &name, "on").await.seq;
                let (events, skipped) = until(&mut reader, seq).await;
                if skipped.last() == Some(&(hidden.seq, hidden.seq)) {
                    break;
                }
                assert!(events.contains(&hidden.seq));
            }
        }
        let mut all =
            world.subscribe(world.user("bob"), all_rooms(pb::StreamStart::FromJoin)).await;
        let last = send(&mut bob, &name, "his own").await.seq;
        assert!(until(&mut all, last).await.1.is_empty());
        own.block("bob", false).await;
        room.hide_peer("bob", false).await;
    }
}

async fn a_stream_on_another_node_learns_of_it_without_a_hint(db: Db) {
    let node = node_with(&db, quick()).await;
    let other = Logs::open(reopen(&db).await).await;
    let room = direct(&node).await;
    let mut reader = node.subscribe("ann", latest(&["pair"])).await;
    reader.all_caught_up(1).await;
    hide(&room.on(&other), &Own::of(&other, "ann"), true).await;
    loop {
        other.say(room.log_id, "bob", "x").await;
        let seq = other.say(room.log_id, "ann", "on").await.message_id.seq;
        if until(&mut reader, seq).await.1.last() == Some(&(seq - 1, seq - 1)) {
            break;
        }
    }
}

async fn what_is_said_of_a_user_later_leaves_it_as_it_is(db: Db) {
    let world = World::open(db).await;
    let room = direct(&world).await;
    plan("other").kind(pb::RoomKind::Direct).members(&["ann", "cas"]).make(&world).await;
    let own = Own::of(&world, "ann");
    let (mut ann, mut bob, mut cas) = (world.user("ann"), world.user("bob"), world.user("cas"));
    hide(&room, &own, true).await;
    send(&mut bob, "pair", "x").await;
    send(&mut cas, "other", "before").await;
    // One whom she blocks as ever, and unblocks; and a suspension that is over.
    own.block("cas", true).await;
    own.suspend(0).await;
    assert!(texts(&page(&mut ann, "pair", 10).await).is_empty());
    assert_eq!(texts(&page(&mut ann, "other", 10).await), ["before"]);
    assert_eq!(unread(&mut ann).await, 1);
    own.block("cas", false).await;
    assert!(texts(&page(&mut ann, "pair", 10).await).is_empty());
    let person = AsRef::<Store>::as_ref(&world)
        .person(&crate::world::tenant(), &crate::world::user("ann"))
        .await;
    let person = person.expect("read");
    assert_eq!(person.blocked.iter().collect::<Vec<_>>(), ["bob"]);
    assert_eq!(person.hidden.iter().collect::<Vec<_>>(), ["bob"]);
}

async fn who_comes_back_sees_what_they_are_told_to_see(db: Db) {
    let world = World::open(db).await;
    let room = direct(&world).await;
    let own = Own::of(&world, "ann");
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    hide(&room, &own, true).await;
    for user in ["bob", "ann"] {
        room.leave(user).await;
        room.join(user).await;
        // As membership says it of everybody who comes.
        room.hide_peer("bob", true).await;
        send(&mut bob, "pair", "x").await;
        assert!(texts(&page(&mut ann, "pair", 10).await).is_empty(), "{user}");
    }
    // Who stays away while they are unblocked sees everything.
    room.leave("ann").await;
    hide(&room, &own, false).await;
    room.join("ann").await;
    assert_eq!(texts(&page(&mut ann, "pair", 10).await), ["x", "x"]);
}

/// Eight sends are in flight at another replica while the block is applied: all are accepted, and
/// of none a page of hers tells from then on.
async fn sends_in_flight_are_hidden_once_the_block_is_applied(db: Db) {
    let (world, two) = (World::open(reopen(&db).await).await, Logs::open(db).await);
    let room = direct(&world).await;
    let own = Own::of(&world, "ann");
    let mut ann = world.user("ann");
    for _ in 0..5 {
        let sends = join_all((0..8).map(|_| two.append(draft(room.log_id, "bob", None, "x"))));
        let (sent, seen) = tokio::join!(sends, async {
            hide(&room, &own, true).await;
            page(&mut ann.clone(), "pair", 100).await
        });
        let sent: Vec<Seq> =
            sent.into_iter().map(|sent| sent.expect("accepted").message_id.seq).collect();
        assert_eq!(sent.len(), 8);
        assert!(texts(&seen).is_empty());
        assert!(texts(&page(&mut ann, "pair", 100).await).is_empty());
        hide(&room, &own, false).await;
    }
    assert_eq!(texts(&page(&mut ann, "pair", 100).await).len(), 40);
}

async fn a_fact_of_a_group_hides_nothing(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").owned(&["ann", "bob"]).member("cas", MemberRole::Member);
    let room = room.make(&world).await;
    room.hide_peer("bob", true).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    send(&mut bob, "lobby", "x").await;
    assert_eq!(texts(&page(&mut ann, "lobby", 10).await), ["x"]);
    let typing = pb::TypingNotice { lasts: Some(prost_types::Duration { seconds: 1, nanos: 0 }) };
    let typing = pb::PublishNoticeRequest {
        room_id: "lobby".to_owned(),
        user_id: "bob".to_owned(),
        notice: Some(Notice::Typing(typing)),
    };
    world.internal(TENANT).notices.publish_notice(typing).await.expect("told");
}
