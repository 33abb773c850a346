//! NoticeService.SendNotice.

use std::time::Duration;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::notice_service_client::NoticeServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{MessageContent, RoomKind};
use parlance_rpc::testing::{called_by, caller};
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use tonic::{Code, Response, Status};

use crate::harness::{Client, World, bad_ids, refused, send, text, violates};
use crate::rights;
use crate::rooms::{Own, group, plan};
use crate::stream::harness::{Mood, Node, Reader, hints_only, latest, tenant, two_nodes};

test_on_each_db!(parlance_message::MIGRATIONS =>
    everybody_who_follows_is_told_once_and_nobody_afterwards,
    some_members_are_told,
    who_has_blocked_the_sender_is_not_told,
    strangers_are_refused,
    whoever_may_not_send_is_refused,
    a_service_speaks_for_nobody,
    bad_input_is_refused_by_name,
    each_caller_has_a_rate_of_their_own,
);

pub(crate) fn saying(room_id: &str, words: &str, to: &[&str]) -> pb::SendNoticeRequest {
    pb::SendNoticeRequest {
        room_id: room_id.to_owned(),
        user_ids: to.iter().map(ToString::to_string).collect(),
        content: Some(text(words)),
    }
}

type Told = Result<Response<pb::SendNoticeResponse>, Status>;

pub(crate) async fn say(client: &Client, request: pb::SendNoticeRequest) -> Told {
    NoticeServiceClient::new(client.transport.clone()).send_notice(request).await
}

/// Says something by a node.
async fn say_at(node: &Node, user: &str, request: pb::SendNoticeRequest) {
    let caller = caller(tenant().as_str(), Principal::User(UserId::new(user)));
    let mut notices = NoticeServiceClient::new(called_by(node.service.public(), caller, None));
    notices.send_notice(request).await.expect("told");
}

/// What the stream is told next: by whom, and what.
async fn told(reader: &mut Reader) -> (String, String) {
    let Frame::Notice(notice) = reader.next().await else { panic!("a notice") };
    let Some(pb::notice::Notice::Custom(said)) = notice.notice else { panic!("{notice:?}") };
    (said.sender_id, said.content.expect("a content").text)
}

/// The streams have been told nothing.
async fn nothing(node: &Node, room: &crate::rooms::Room, readers: &mut [&mut Reader]) {
    // What waits for a stream comes behind one event, or before it.
    for _ in 0..2 {
        let seq = node.send(room, "next").await;
        for reader in &mut *readers {
            assert_eq!(reader.event().await.seq, seq);
        }
    }
}

/// B-110. B-143.
async fn everybody_who_follows_is_told_once_and_nobody_afterwards(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (here.follow("ann").await, there.follow("bob").await);
    let content = MessageContent {
        r#type: "game".to_owned(),
        properties: [("round".to_owned(), "7".to_owned())].into(),
        ..text("begins")
    };
    let request = pb::SendNoticeRequest { content: Some(content.clone()), ..saying("r", "", &[]) };
    say_at(&here, "ann", request).await;
    for reader in [&mut ann, &mut bob] {
        let Frame::Notice(notice) = reader.next().await else { panic!("a notice") };
        let custom =
            pb::CustomNotice { sender_id: "ann".to_owned(), content: Some(content.clone()) };
        let notice = (notice.room_id, notice.notice);
        assert_eq!(notice, ("r".to_owned(), Some(pb::notice::Notice::Custom(custom))));
    }
    // Of two with one text both are told, in any order.
    for words in ["again", "again"] {
        say_at(&there, "bob", saying("r", words, &[])).await;
    }
    for reader in [&mut ann, &mut bob] {
        for _ in 0..2 {
            assert_eq!(told(reader).await, ("bob".to_owned(), "again".to_owned()));
        }
    }
    let mut late = here.follow("bob").await;
    nothing(&here, &room, &mut [&mut ann, &mut bob, &mut late]).await;
}

async fn some_members_are_told(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob", "cas"]).await;
    let (mut ann, mut cas) = (here.follow("ann").await, there.follow("cas").await);
    let (mut bob, mut far) = (here.follow("bob").await, there.follow("bob").await);
    say_at(&here, "ann", saying("r", "your turn", &["bob", "nobody"])).await;
    for reader in [&mut bob, &mut far] {
        assert_eq!(told(reader).await, ("ann".to_owned(), "your turn".to_owned()));
    }
    nothing(&here, &room, &mut [&mut ann, &mut cas]).await;
}

async fn who_has_blocked_the_sender_is_not_told(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = group(&here, "r", &["ann", "bob", "cas"]).await;
    Own::of(&here, "cas").block("ann", true).await;
    let (mut bob, mut cas) = (here.follow("bob").await, there.follow("cas").await);
    say_at(&here, "ann", saying("r", "hello", &[])).await;
    assert_eq!(told(&mut bob).await, ("ann".to_owned(), "hello".to_owned()));
    here.typing(&room, "ann", Duration::from_mins(1)).await;
    let Frame::Notice(typing) = bob.next().await else { panic!("a notice") };
    assert!(matches!(typing.notice, Some(pb::notice::Notice::Typing(_))));
    nothing(&here, &room, &mut [&mut cas]).await;
}

async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    let call =
        async |client: Client, room: &str| say(&client, saying(room, "hello", &[])).await.map(drop);
    rights::of_room_call(&world, call).await;
}

async fn whoever_may_not_send_is_refused(db: Db) {
    let world = World::open(db).await;
    plan("stage").owned(&["ann", "bob"]).admins_post().make(&world).await;
    refused(say(&world.user("bob"), saying("stage", "x", &[])).await, Reason::PostingRestricted);
    say(&world.user("ann"), saying("stage", "x", &[])).await.expect("told");
    let pair = plan("pair").kind(RoomKind::Direct).members(&["ann", "bob"]).make(&world).await;
    pair.block_peer("bob", true).await;
    refused(say(&world.user("bob"), saying("pair", "x", &[])).await, Reason::Blocked);
    say(&world.user("ann"), saying("pair", "x", &[])).await.expect("told");
    Own::of(&world, "ann").suspend(i64::MAX / 2).await;
    refused(say(&world.user("ann"), saying("stage", "x", &[])).await, Reason::Suspended);
}

async fn a_service_speaks_for_nobody(db: Db) {
    let world = World::open(db).await;
    plan("stage").owned(&["ann"]).admins_post().make(&world).await;
    let mut ann = world.subscribe(world.user("ann"), latest(&["stage"])).await;
    ann.all_caught_up(1).await;
    say(&world.backend(), saying("stage", "maintenance", &["ann"])).await.expect("told");
    assert_eq!(told(&mut ann).await, (String::new(), "maintenance".to_owned()));
    say(&world.service_for("ann"), saying("stage", "hi", &[])).await.expect("told");
    assert_eq!(told(&mut ann).await, ("ann".to_owned(), "hi".to_owned()));
    let sent = send(&mut world.backend(), "stage", "next").await;
    assert_eq!(ann.event().await.seq, sent.seq);
}

async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let ann = world.user("ann");
    let good = saying("lobby", "x", &[]);
    for bad in bad_ids() {
        violates(say(&ann, saying(&bad, "x", &[])).await, "room_id");
        violates(say(&ann, saying("lobby", "x", &["bob", &bad])).await, "user_ids[1]");
    }
    violates(say(&ann, saying("lobby", "x", &["bob", "bob"])).await, "user_ids[1]");
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let most: Vec<_> = many.iter().map(String::as_str).collect();
    violates(say(&ann, saying("lobby", "x", &most)).await, "user_ids");
    say(&ann, saying("lobby", "x", &most[1..])).await.expect("the most");
    violates(say(&ann, pb::SendNoticeRequest { content: None, ..good.clone() }).await, "content");
    violates(say(&ann, saying("lobby", "", &[])).await, "content.text");
    violates(say(&ann, saying("lobby", &"x".repeat(4001), &[])).await, "content.text");
    let reply_to_message_id = "00000000000000000000000000000009-1".to_owned();
    let reply = MessageContent { reply_to_message_id, ..text("x") };
    let reply = pb::SendNoticeRequest { content: Some(reply), ..good };
    violates(say(&ann, reply).await, "content.reply_to_message_id");
}

/// What is one too many at once is refused and told when it may come again; nobody else is.
async fn each_caller_has_a_rate_of_their_own(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    let ann = world.user("ann");
    let mut admitted = 0;
    let refusal = loop {
        match say(&ann, saying("lobby", "x", &[])).await {
            Ok(_) => admitted += 1,
            Err(refusal) => break refusal,
        }
    };
    // While it goes on, some more come in.
    assert!(admitted >= 40, "{admitted}");
    assert_eq!(
        (refusal.code(), Reason::of(&refusal)),
        (Code::ResourceExhausted, Some(Reason::RateLimited))
    );
    say(&world.user("bob"), saying("lobby", "x", &[])).await.expect("another user");
    say(&world.backend(), saying("lobby", "x", &[])).await.expect("a service");
    send(&mut world.user("ann"), "lobby", "messages have another").await;
}
