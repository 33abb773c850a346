//! Members who may read and not write.

use futures::future::join_all;
use parlance_db::testing::{Effort, on_own_postgres};
use parlance_db::{Db, test_on_each_db};
use parlance_log::FOR_EVER;
use parlance_message::{Error, MIGRATIONS};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::MemberRole;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_rpc::Reason;
use parlance_types::{LogId, Micros, Seq};
use tokio::sync::Notify;
use tonic_types::StatusExt as _;

use crate::harness::{TENANT, World, delete, editing, refused, saying, send};
use crate::notice::send_notice;
use crate::reaction::reactions;
use crate::rooms::{Room, event, gained, plan};
use crate::world::{World as Logs, draft, options, reopen};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_muted_member_reads_and_marks_and_deletes_their_own_and_no_more,
    a_mute_ends_by_itself_by_the_clock_of_the_append,
    a_mute_ends_while_no_replica_runs,
    a_mute_is_lifted_and_may_have_no_end,
    a_repeat_gets_its_first_reply_though_its_sender_is_muted,
    a_member_comes_back_muted,
    nothing_is_accepted_after_a_mute,
);

const SECOND: Micros = 1_000_000;

fn until(micros: Micros) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: micros / SECOND, nanos: 0 }
}

/// What makes a member silent until then; `None`: no longer.
fn mutes(user: &str, micros: Option<Micros>) -> pb::Effects {
    let mute = pb::MemberMute { user_id: user.to_owned(), until: micros.map(until) };
    pb::Effects { mutes: vec![mute], ..pb::Effects::default() }
}

async fn mute(room: &Room, user: &str, micros: Option<Micros>) -> Seq {
    let body = pb::MembersMuted { user_ids: vec![user.to_owned()], ..Default::default() };
    room.happen(event(mutes(user, micros), Body::MembersMuted(body))).await
}

/// A group of Ann's in which Bob is.
async fn lobby(world: &World) -> Room {
    plan("lobby").owned(&["ann", "bob"]).make(world).await
}

async fn a_muted_member_reads_and_marks_and_deletes_their_own_and_no_more(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").owned(&["ann"]).member("bob", MemberRole::Admin).make(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let (own, kept) = (send(&mut bob, "lobby", "one").await, send(&mut bob, "lobby", "two").await);
    let others = send(&mut ann, "lobby", "three").await;
    mute(&room, "bob", Some(60 * SECOND)).await;

    let told = refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Muted);
    let info = told.get_details_error_info().expect("error info");
    assert_eq!(info.metadata["until"], "1970-01-01T00:01:00Z");
    let for_bob = world.service_for("bob").messages.send_message(saying("lobby", "x")).await;
    refused(for_bob, Reason::Muted);
    refused(bob.messages.edit_message(editing(&kept.message_id, "x")).await, Reason::Muted);
    let message_id = others.message_id.clone();
    let request = pb::DeleteMessageRequest { message_id: message_id.clone() };
    refused(bob.messages.delete_message(request).await, Reason::Muted);
    let mut pins = PinServiceClient::new(bob.transport.clone());
    let request = pb::PinMessageRequest { message_id: message_id.clone() };
    refused(pins.pin_message(request).await, Reason::Muted);
    let request = pb::UnpinMessageRequest { message_id };
    refused(pins.unpin_message(request).await, Reason::Muted);
    refused(reactions::add(&bob, &others.message_id, "tea").await, Reason::Muted);
    refused(reactions::remove(&bob, &others.message_id, "tea").await, Reason::Muted);
    let notice = send_notice::saying("lobby", "x", &[]);
    refused(send_notice::say(&bob, notice).await, Reason::Muted);
    let mut presence = world.internal(TENANT);
    let typing = |seconds| pb::PublishNoticeRequest {
        room_id: "lobby".to_owned(),
        user_id: "bob".to_owned(),
        notice: Some(Notice::Typing(pb::TypingNotice {
            lasts: Some(prost_types::Duration { seconds, nanos: 0 }),
        })),
    };
    refused(presence.notices.publish_notice(typing(1)).await, Reason::Muted);
    presence.notices.publish_notice(typing(0)).await.expect("who is muted may stop");

    let request = pb::ListMessagesRequest { room_id: "lobby".to_owned(), ..Default::default() };
    let page = bob.messages.list_messages(request).await.expect("a page").into_inner();
    assert_eq!(page.messages.len(), 3);
    let mark = pb::MarkReadRequest { room_id: "lobby".to_owned(), seq: others.seq };
    bob.marks.mark_read(mark).await.expect("marked");
    delete(&mut bob, &own.message_id).await;
    send(&mut ann, "lobby", "others write on").await;
    send(&mut world.backend(), "lobby", "so does the system").await;
}

async fn a_mute_ends_by_itself_by_the_clock_of_the_append(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut bob = world.user("bob");
    let muted = mute(&room, "bob", Some(60 * SECOND)).await;
    // It began at 1.5 s.
    world.clock.advance(60 * SECOND - SECOND - SECOND / 2 - 1);
    refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Muted);
    world.clock.advance(1);
    assert_eq!(send(&mut bob, "lobby", "again").await.seq, muted + 1);
}

async fn a_mute_ends_while_no_replica_runs(db: Db) {
    let later = reopen(&db).await;
    let world = World::open(db).await;
    let muted = mute(&lobby(&world).await, "bob", Some(60 * SECOND)).await;
    refused(world.user("bob").messages.send_message(saying("lobby", "x")).await, Reason::Muted);
    drop(world);
    let world = World::open(later).await;
    world.clock.advance(60 * SECOND);
    assert_eq!(send(&mut world.user("bob"), "lobby", "again").await.seq, muted + 1);
}

async fn a_mute_is_lifted_and_may_have_no_end(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut bob = world.user("bob");
    mute(&room, "bob", Some(FOR_EVER)).await;
    mute(&room, "bob", Some(FOR_EVER * 10)).await;
    let told = refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Muted);
    let info = told.get_details_error_info().expect("error info");
    assert!(!info.metadata.contains_key("until"), "{info:?}");
    mute(&room, "bob", None).await;
    send(&mut bob, "lobby", "again").await;
    // Of somebody who is not in, a mute means nothing here.
    mute(&room, "eve", Some(FOR_EVER)).await;
}

async fn a_repeat_gets_its_first_reply_though_its_sender_is_muted(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut bob = world.user("bob");
    let request =
        pb::SendMessageRequest { request_id: "r1".to_owned(), ..saying("lobby", "hello") };
    let first = bob.messages.send_message(request.clone()).await.expect("sent").into_inner();
    mute(&room, "bob", Some(60 * SECOND)).await;
    let again = bob.messages.send_message(request).await.expect("a repeat").into_inner();
    assert_eq!(again, first);
}

async fn a_member_comes_back_muted(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut bob = world.user("bob");
    mute(&room, "bob", Some(60 * SECOND)).await;
    room.leave("bob").await;
    let back = pb::Effects { mutes: mutes("bob", Some(60 * SECOND)).mutes, ..gained("bob") };
    room.happen(event(back, None)).await;
    refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::Muted);
    room.leave("bob").await;
    room.join("bob").await;
    send(&mut bob, "lobby", "a join that names no mute is none").await;
}

/// Eight sends are in flight at another replica while the mute is applied.
async fn nothing_is_accepted_after_a_mute(db: Db) {
    let other = reopen(&db).await;
    let (one, two) = (Logs::open(db).await, Logs::open(other).await);
    let log_id = one.group("r", &["ann", "bob"]).await;
    for round in 0..25 {
        let accepts = Notify::new();
        let muting = async {
            accepts.notified().await;
            let effects = mutes("bob", Some(60 * SECOND));
            one.fact(log_id, 2 * round + 2, effects).await.expect("a fact").head
        };
        let sends = join_all((0..8).map(|_| send_until_muted(&two, log_id, &accepts)));
        let (muted, accepted) = tokio::join!(muting, sends);
        let late: Vec<_> = accepted.iter().flatten().filter(|seq| **seq > muted).collect();
        assert!(late.is_empty(), "{late:?} after {muted}");
        one.fact(log_id, 2 * round + 3, mutes("bob", None)).await.expect("a fact");
    }
}

/// The places of what was accepted until a send was refused.
async fn send_until_muted(world: &Logs, log_id: LogId, accepts: &Notify) -> Vec<Seq> {
    let mut accepted = Vec::new();
    loop {
        match world.append(draft(log_id, "bob", None, "x")).await {
            Ok(sent) => accepted.push(sent.message_id.seq),
            Err(Error::Muted { until }) => {
                assert_eq!(until, 60 * SECOND);
                return accepted;
            }
            Err(error) => panic!("{error:?}"),
        }
        accepts.notify_one();
    }
}

/// The functions before knew of no mutes, or of no suspensions and blocks: they are still there.
#[tokio::test]
async fn an_append_touches_no_more_pages_than_before_there_were_mutes_and_blocks() {
    on_own_postgres(MIGRATIONS, async |db| {
        let world = Logs::with(db.clone(), options()).await;
        let log_id = world.group("r", &["ann", "bob"]).await;
        let effort = Effort::of(&db).await;
        let mut least = [u64::MAX; 3];
        for run in 0..8 {
            let calls = [
                "SELECT r_verdict FROM append_messages_v1($1, $2, $3, $4, $5, $6, $7)",
                "SELECT r_verdict FROM append_messages_v2($1, $2, $3, $4, $5, $6, $7)",
                "SELECT r_verdict FROM append_messages_v3($1, $2, $3, $4, $5, $6, $7)",
            ];
            for (version, (call, least)) in calls.into_iter().zip(&mut least).enumerate() {
                let call = db.write(call).bind(1_000_000_i64).bind_array(vec![log_id.0]);
                let call = call.bind_array(vec!["bob"]);
                let call = call.bind_array(vec![format!("{run} of {version}")]);
                let call = call.bind_array(vec![vec![0_u8; 32]]).bind_array(vec![true]);
                let call = call.bind_array(vec![vec![0_u8; 64]]);
                let ((verdict,), pages): ((i16,), u64) =
                    effort.taken_by(async { call.fetch_one().await.expect("a verdict") }).await;
                assert_eq!(verdict, 0);
                *least = pages.min(*least);
            }
        }
        let [before, mutes, now] = least;
        assert!(mutes <= before && now <= before, "{mutes} and {now} pages instead of {before}");
    })
    .await;
}
