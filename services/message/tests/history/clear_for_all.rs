//! `ClearHistoryForAll`.

use parlance_db::{Db, test_on_each_db};
use parlance_message::ON_PRUNE;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::list_messages_request::Position;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{ResetReason, RoomKind, SendMessageRequest};
use parlance_rpc::Reason;
use parlance_types::{LogId, Seq};
use tonic::{Response, Status};
use tonic_types::StatusExt;

use crate::harness::{
    Client, World, bad_ids, bad_message_ids, edit, editing, refused, saying, send, unread,
    violates, words,
};
use crate::rights;
use crate::rooms::{Room, group, plan};
use crate::stream::harness::{from, seqs};

test_on_each_db!(parlance_message::MIGRATIONS =>
    owners_clear_and_nobody_gets_what_was_before,
    a_history_is_cleared_up_to_a_message,
    both_users_of_a_direct_room_and_those_who_act_for_nobody_clear,
    positions_that_are_gone_are_refused_with_the_first_that_is_left,
    a_repeat_is_no_second_clearing,
    streams_pass_the_clearing_and_later_ones_begin_behind_it,
    what_was_sent_is_recognised_for_seven_days_though_it_is_gone,
    an_edit_of_what_is_gone_has_no_content,
    what_is_no_place_in_the_room_is_refused,
    strangers_are_refused,
);

pub(super) async fn try_clear(
    client: &Client,
    room_id: &str,
    through: &str,
    request_id: &str,
) -> Result<pb::ClearHistoryForAllResponse, Status> {
    let mut history = HistoryServiceClient::new(client.transport.clone());
    let request = pb::ClearHistoryForAllRequest {
        room_id: room_id.to_owned(),
        through_message_id: through.to_owned(),
        request_id: request_id.to_owned(),
    };
    Ok(history.clear_history_for_all(request).await?.into_inner())
}

/// Clears a history; gives the place of the clearing, and the first event that is left.
pub(super) async fn clear(client: &Client, room_id: &str, through: &str) -> (Seq, Seq) {
    let cleared = try_clear(client, room_id, through, "").await.expect("cleared");
    (cleared.seq, cleared.first_seq)
}

pub(super) async fn page(client: &mut Client, room_id: &str) -> Vec<String> {
    let request = pb::ListMessagesRequest {
        room_id: room_id.to_owned(),
        page_size: 100,
        ..Default::default()
    };
    let page = client.messages.list_messages(request).await.expect("a page").into_inner();
    page.messages.iter().map(|message| words(message).expect("a text").to_owned()).collect()
}

/// Lets go of what there is to let go of, as a node does every few seconds.
pub(crate) async fn prune(world: &World) {
    world.service.store().prune(ON_PRUNE).await.expect("pruned");
}

/// The rows of a log in a table.
pub(crate) async fn rows(world: &World, table: &str, log_id: LogId) -> i64 {
    let select = format!("SELECT COUNT(*) FROM {table} WHERE log_id = $1");
    let select = world.service.store().db().read(parlance_db::AssertSqlSafe(select));
    select.bind(log_id.0).fetch_one::<(i64,)>().await.expect("a count").0
}

/// A group that Ann owns, with Bob in it.
async fn lobby(world: &World) -> Room {
    plan("lobby").owned(&["ann", "bob"]).make(world).await
}

fn pins(client: &Client) -> PinServiceClient<parlance_rpc::Transport> {
    PinServiceClient::new(client.transport.clone())
}

/// B-041.
async fn owners_clear_and_nobody_gets_what_was_before(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    room.set_role("bob", pb::MemberRole::Admin).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let mut sent = Vec::new();
    for n in 0..3 {
        sent.push(send(&mut ann, "lobby", &n.to_string()).await);
    }
    let message_id = sent[1].message_id.clone();
    let pin = pb::PinMessageRequest { message_id: message_id.clone() };
    pins(&ann).pin_message(pin.clone()).await.expect("pinned");
    assert_eq!(unread(&mut bob).await, 3);

    let result = try_clear(&bob, "lobby", "", "").await.map(Response::new);
    refused(result, Reason::NotAllowed);
    let (seq, first) = clear(&ann, "lobby", "").await;
    assert_eq!((seq, first), (sent[2].seq + 2, sent[2].seq + 2));
    // Before anything is let go of, and after.
    for _ in 0..2 {
        for client in [&mut ann.clone(), &mut bob, &mut world.backend()] {
            assert_eq!(page(client, "lobby").await, Vec::<String>::new());
            for sent in &sent {
                let request = pb::GetMessageRequest { message_id: sent.message_id.clone() };
                refused(client.messages.get_message(request).await, Reason::MessageNotFound);
            }
            let request = pb::ListPinsRequest { room_id: "lobby".to_owned() };
            let listed = pins(client).list_pins(request).await.expect("pins");
            assert_eq!(listed.into_inner().pins, vec![]);
        }
        assert_eq!(unread(&mut bob).await, 0);
        let recount = bob.inbox.recount_unread(pb::RecountUnreadRequest {}).await;
        assert_eq!(recount.expect("counted").into_inner().differences, vec![]);
        let edited = ann.messages.edit_message(editing(&message_id, "again")).await;
        refused(edited, Reason::MessageNotFound);
        let request = pb::DeleteMessageRequest { message_id: message_id.clone() };
        refused(ann.messages.delete_message(request).await, Reason::MessageNotFound);
        refused(pins(&ann).pin_message(pin.clone()).await, Reason::MessageNotFound);
        prune(&world).await;
    }
    assert_eq!(rows(&world, "events", room.log_id).await, 1);
    assert_eq!(rows(&world, "pins", room.log_id).await, 0);
    assert_eq!(rows(&world, "prunings", room.log_id).await, 0);

    // The room goes on.
    assert_eq!(send(&mut ann, "lobby", "next").await.seq, seq + 1);
    assert_eq!((page(&mut bob, "lobby").await, unread(&mut bob).await), (texts(&["next"]), 1));
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// B-041.
async fn a_history_is_cleared_up_to_a_message(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let mut sent = Vec::new();
    for n in 0..4 {
        sent.push(send(&mut ann, "lobby", &n.to_string()).await);
    }
    let (_, first) = clear(&ann, "lobby", &sent[1].message_id).await;
    assert_eq!(first, sent[2].seq);
    assert_eq!((page(&mut bob, "lobby").await, unread(&mut bob).await), (texts(&["2", "3"]), 2));
    for through in &sent[..2] {
        let result = try_clear(&ann, "lobby", &through.message_id, "").await;
        refused(result.map(Response::new), Reason::PositionPruned);
    }
    clear(&ann, "lobby", &sent[2].message_id).await;
    assert_eq!((page(&mut bob, "lobby").await, unread(&mut bob).await), (texts(&["3"]), 1));
}

/// B-041.
async fn both_users_of_a_direct_room_and_those_who_act_for_nobody_clear(db: Db) {
    let world = World::open(db).await;
    let pair = plan("pair").kind(RoomKind::Direct).members(&["ann", "bob"]);
    pair.make(&world).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    for (client, room) in [
        (world.user("ann"), "pair"),
        (world.user("bob"), "pair"),
        (world.backend(), "pair"),
        (world.backend(), "lobby"),
    ] {
        send(&mut ann, room, "hello").await;
        clear(&client, room, "").await;
        assert_eq!(page(&mut ann, room).await, Vec::<String>::new());
    }
}

async fn positions_that_are_gone_are_refused_with_the_first_that_is_left(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let mut last = String::new();
    for n in 0..5 {
        last = send(&mut ann, "lobby", &n.to_string()).await.message_id;
    }
    let (seq, first) = clear(&ann, "lobby", &last).await;
    assert_eq!((seq, first), (8, 8));
    let listing = async |client: &mut Client, position| {
        let (room_id, position) = ("lobby".to_owned(), Some(position));
        let request = pb::ListMessagesRequest { room_id, position, ..Default::default() };
        client.messages.list_messages(request).await
    };
    for position in [
        Position::BeforeSeq(7),
        Position::AroundSeq(7),
        Position::AfterSeq(1),
        Position::AfterSeq(6),
    ] {
        let status = refused(listing(&mut bob, position).await, Reason::PositionPruned);
        assert_eq!(status.code(), tonic::Code::OutOfRange);
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.metadata.get("first_seq").map(String::as_str), Some("8"));
    }
    for position in [
        Position::BeforeSeq(8),
        Position::AroundSeq(8),
        Position::AfterSeq(0),
        Position::AfterSeq(7),
    ] {
        listing(&mut bob, position).await.expect("a page");
    }
    // Strangers do not learn of it.
    refused(listing(&mut world.user("eve"), Position::BeforeSeq(7)).await, Reason::NotAMember);

    let room_id = || "lobby".to_owned();
    let mark = pb::MarkReadRequest { room_id: room_id(), seq: 7 };
    refused(bob.marks.mark_read(mark).await, Reason::PositionPruned);
    let mark = pb::MarkDeliveredRequest { room_id: room_id(), seq: 7 };
    refused(bob.marks.mark_delivered(mark).await, Reason::PositionPruned);
    // The mark stands there already, or higher.
    let mark = pb::MarkReadRequest { room_id: room_id(), seq: 2 };
    bob.marks.mark_read(mark.clone()).await.expect("no effect");
    ann.marks.mark_read(pb::MarkReadRequest { seq: 7, ..mark.clone() }).await.expect("no effect");
    for seq in [8, 8, 3] {
        let read = bob.marks.mark_read(pb::MarkReadRequest { seq, ..mark.clone() }).await;
        assert_eq!(read.expect("marked").into_inner().read_seq, 8);
    }
    assert_eq!(room.leave("bob").await, 9);
}

async fn a_repeat_is_no_second_clearing(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let message_id = send(&mut ann, "lobby", "hello").await.message_id;
    let first = try_clear(&ann, "lobby", "", "once").await.expect("cleared");
    send(&mut ann, "lobby", "after").await;
    for _ in 0..2 {
        assert_eq!(try_clear(&ann, "lobby", "", "once").await.expect("a repeat"), first);
        prune(&world).await;
    }
    assert_eq!(page(&mut ann, "lobby").await, ["after"]);
    let other = try_clear(&ann, "lobby", &message_id, "once").await.map(Response::new);
    refused(other, Reason::RequestIdReused);
}

/// B-041.
async fn streams_pass_the_clearing_and_later_ones_begin_behind_it(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    for n in 0..3 {
        send(&mut ann, "lobby", &n.to_string()).await;
    }
    let mut live = world.subscribe(bob.clone(), from(&room, "", 0)).await;
    let attached = live.attached().await;
    let epoch = attached.epoch;
    assert_eq!(seqs(&live.events_until(5).await), [1, 2, 3, 4, 5]);
    let (seq, first) = clear(&ann, "lobby", "").await;
    assert_eq!((seq, first), (6, 6));
    let told = live.events_until(6).await.remove(0);
    assert_eq!(told.effects.expect("effects").first_seq, 6);
    let Some(Body::HistoryCleared(cleared)) = told.body else { panic!("{:?}", told.body) };
    assert_eq!((cleared.through_seq, told.actor_id.as_str()), (5, "ann"));

    for pruned in [false, true] {
        // Who holds nothing misses nothing.
        let mut new = world.subscribe(bob.clone(), from(&room, "", 0)).await;
        assert_eq!(new.attached().await.resume_from, 0);
        let Frame::Skipped(skipped) = new.next().await else { panic!("not skipped") };
        assert_eq!((skipped.from_seq, skipped.to_seq), (1, 5));
        assert_eq!(seqs(&new.events_until(6).await), [6]);
        for held in 1..=5 {
            let mut back = world.subscribe(bob.clone(), from(&room, &epoch, held)).await;
            if held < 5 {
                let Frame::Reset(reset) = back.next().await else { panic!("no reset: {pruned}") };
                assert_eq!(reset.reason(), ResetReason::Pruned);
                assert_eq!((reset.keep_through, reset.resume_from), (5, 5));
                assert_eq!(reset.epoch, epoch);
            }
            assert_eq!(back.attached().await.resume_from, 5);
            assert_eq!(back.event().await.seq, 6);
            assert_eq!(back.caught_up().await, 6);
        }
        prune(&world).await;
    }
}

async fn what_was_sent_is_recognised_for_seven_days_though_it_is_gone(db: Db) {
    const DAY: i64 = 24 * 3600 * 1_000_000;
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut ann = world.user("ann");
    let request = SendMessageRequest { request_id: "one".to_owned(), ..saying("lobby", "hello") };
    let sent = ann.messages.send_message(request.clone()).await.expect("sent").into_inner();
    let request_id = "two".to_owned();
    let changed = pb::EditMessageRequest { request_id, ..editing(&sent.message_id, "better") };
    let edited = ann.messages.edit_message(changed.clone()).await.expect("edited").into_inner();
    send(&mut ann, "lobby", "without an id").await;
    let (seq, first) = clear(&ann, "lobby", "").await;
    for day in 0..7 {
        prune(&world).await;
        // The clearing, and the two that may be repeated.
        assert_eq!(rows(&world, "events", room.log_id).await, 3, "day {day}");
        let again = ann.messages.send_message(request.clone()).await.expect("a repeat");
        assert_eq!(again.into_inner(), sent);
        let again = ann.messages.edit_message(changed.clone()).await.expect("a repeat");
        assert_eq!(again.into_inner(), edited);
        let other = SendMessageRequest { content: saying("", "other").content, ..request.clone() };
        refused(ann.messages.send_message(other).await, Reason::RequestIdReused);
        assert_eq!(page(&mut ann, "lobby").await, Vec::<String>::new());
        let stream = world.subscribe(ann.clone(), from(&room, "", 0)).await;
        assert_eq!(seqs(&{ stream }.events_until(seq).await), [first]);
        world.clock.advance(DAY);
    }
    prune(&world).await;
    assert_eq!(rows(&world, "events", room.log_id).await, 1);
    assert_eq!(rows(&world, "prunings", room.log_id).await, 0);
    let again = ann.messages.send_message(request).await.expect("sent anew").into_inner();
    assert_eq!(again.seq, seq + 1);
}

async fn an_edit_of_what_is_gone_has_no_content(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut ann = world.user("ann");
    let gone = send(&mut ann, "lobby", "secret").await;
    let kept = send(&mut ann, "lobby", "kept").await;
    edit(&mut ann, &gone.message_id, "still secret").await;
    edit(&mut ann, &kept.message_id, "better").await;
    // In the ring, in blocks, and as it is read anew.
    let mut live = world.subscribe(ann.clone(), from(&room, "", 0)).await;
    live.events_until(6).await;
    let (seq, _) = clear(&ann, "lobby", &gone.message_id).await;
    live.events_until(seq).await;
    for _ in 0..2 {
        for (client, drops) in [(ann.clone(), false), (world.backend(), true)] {
            if drops {
                drop(std::mem::replace(&mut live, world.follow("lobby").await));
            }
            let mut stream = world.subscribe(client, from(&room, "", 0)).await;
            let told = stream.events_until(seq).await;
            assert_eq!(seqs(&told), [4, 5, 6, 7]);
            let content = |at: usize| match &told[at].body {
                Some(Body::MessageEdited(edited)) => {
                    (edited.message_seq, edited.deleted, edited.content.clone())
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(content(1), (gone.seq, true, None));
            let (target, deleted, content) = content(2);
            assert_eq!((target, deleted), (kept.seq, false));
            assert_eq!(content.expect("a content").text, "better");
        }
        prune(&world).await;
    }
}

/// B-186.
async fn what_is_no_place_in_the_room_is_refused(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    plan("other").owned(&["ann"]).make(&world).await;
    let ann = world.user("ann");
    let try_clear = async |client: &Client, room: &str, through: &str, request: &str| {
        try_clear(client, room, through, request).await.map(Response::new)
    };
    for bad in bad_ids() {
        violates(try_clear(&ann, &bad, "", "").await, "room_id");
        if !bad.is_empty() {
            violates(try_clear(&ann, "lobby", "", &bad).await, "request_id");
        }
    }
    for bad in bad_message_ids().into_iter().filter(|bad| !bad.is_empty()) {
        violates(try_clear(&ann, "lobby", bad, "").await, "through_message_id");
    }
    let elsewhere = send(&mut ann.clone(), "other", "elsewhere").await.message_id;
    violates(try_clear(&ann, "lobby", &elsewhere, "").await, "through_message_id");
    let ahead = format!("{}-3", room.log_id);
    refused(try_clear(&ann, "lobby", &ahead, "").await, Reason::MessageNotFound);
    refused(try_clear(&world.user("eve"), "lobby", &elsewhere, "").await, Reason::NotAMember);
}

async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    let allowed = |result: Result<(), Status>| match result {
        Err(status) if Reason::of(&status) == Some(Reason::NotAllowed) => Ok(()),
        result => result,
    };
    rights::of_room_call(&world, async |client: Client, room: &str| {
        allowed(try_clear(&client, room, "", "").await.map(drop))
    })
    .await;
}
