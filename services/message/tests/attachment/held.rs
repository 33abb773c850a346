//! What messages hold: how uploads come into them, and out.

use std::collections::BTreeMap;

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::attachment::Source;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use prost::Message as _;
use tonic::{Response, Status};

use super::harness::{
    Kept, PART, content, create, download, get, holding, put, send, stored, try_download, try_get,
    try_send,
};
use crate::harness::{self, Client, World, delete, editing, refused, saying, text, violates};
use crate::message::send_messages::send_messages;
use crate::rooms::group;

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_message_holds_uploads_urls_and_small_data,
    a_message_of_uploads_needs_no_text,
    a_message_holds_only_complete_uploads_of_its_sender_in_its_room,
    an_upload_is_held_once,
    of_messages_that_take_an_upload_at_once_one_has_it,
    a_repeat_of_a_message_is_answered_as_the_first,
    uploads_are_held_by_messages_of_a_stream_too,
    an_edit_keeps_takes_and_lets_go,
    what_is_wrong_with_an_attachment_is_named,
    a_stranger_does_not_learn_of_a_room_by_an_upload,
);

async fn try_edit(
    client: &Client,
    message_id: &str,
    attachments: Vec<pb::Attachment>,
) -> Result<Response<pb::EditMessageResponse>, Status> {
    let content = Some(pb::MessageContent { attachments, ..text("edited") });
    let request = pb::EditMessageRequest { content, ..editing(message_id, "") };
    client.messages.clone().edit_message(request).await
}

/// What a message holds as it reads now.
async fn held(client: &Client, message_id: &str) -> Vec<pb::Attachment> {
    harness::get(&mut client.clone(), message_id).await.content.expect("a content").attachments
}

/// The last event of a room.
async fn last(world: &World, message_id: &str) -> Option<Body> {
    let id: parlance_types::MessageId = message_id.parse().expect("an id");
    let store = world.service.store();
    let head = store.view(id.log_id, None).await.expect("a view").expect("a log").head;
    let event = store.events(id.log_id, head, head).await.expect("events").remove(0);
    pb::Event::decode(event.payload).expect("an event").body
}

/// B-170.
async fn a_message_holds_uploads_urls_and_small_data(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann", "bob"]).await;
    let (ann, bob) = (kept.user("ann"), kept.user("bob"));
    let id = put(&ann, "lobby", &content(PART + 1, 1)).await;
    let upload = pb::Attachment {
        width: 640,
        height: 480,
        duration: Some(prost_types::Duration { seconds: 3, nanos: 500_000_000 }),
        // Not the sender's to say.
        name: "virus.exe".to_owned(),
        content_type: "text/html".to_owned(),
        size: 1,
        ..stored(&id)
    };
    let url = pb::Attachment {
        source: Some(Source::Url("https://example.org/a.pdf".to_owned())),
        name: "a.pdf".to_owned(),
        content_type: "application/pdf".to_owned(),
        size: 12_345,
        ..Default::default()
    };
    let inline = pb::Attachment {
        source: Some(Source::InlineData(vec![0, 1, 255])),
        size: 9_999,
        ..Default::default()
    };
    let attachments = vec![upload.clone(), url.clone(), inline.clone()];
    let content = Some(pb::MessageContent { attachments, ..text("look") });
    let sent = try_send(&ann, pb::SendMessageRequest { content, ..saying("lobby", "") }).await;
    let sent = sent.expect("sent").into_inner().message_id;

    let expected = [
        pb::Attachment {
            name: "tea.png".to_owned(),
            content_type: "image/png".to_owned(),
            size: i64::try_from(PART + 1).expect("small"),
            ..upload
        },
        url,
        pb::Attachment { size: 3, ..inline },
    ];
    assert_eq!(held(&bob, &sent).await, expected);
    let list = pb::ListMessagesRequest { room_id: "lobby".to_owned(), ..Default::default() };
    let page = bob.messages.clone().list_messages(list).await.expect("a page").into_inner();
    assert_eq!(page.messages[0], harness::get(&mut bob.clone(), &sent).await);
    let Some(Body::MessageSent(event)) = last(&kept.world, &sent).await else { panic!("sent") };
    assert_eq!(event.content.expect("a content").attachments, expected);
}

async fn a_message_of_uploads_needs_no_text(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    violates(try_send(&ann, saying("lobby", "")).await, "content.text");
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(put(&ann, "lobby", b"abc").await);
    }
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let sent = send(&ann, "lobby", &ids).await;
    assert_eq!(held(&ann, &sent).await.len(), 10);
    // Its answer, too.
    let id = put(&ann, "lobby", b"abc").await;
    let mut answer = holding("lobby", &[&id]);
    answer.content.as_mut().expect("a content").reply_to_message_id.clone_from(&sent);
    let answer = try_send(&ann, answer).await.expect("sent").into_inner().message_id;
    let shown = harness::get(&mut ann.clone(), &answer).await;
    assert_eq!(shown.thread_root_id, sent);
    assert_eq!(shown.content.expect("a content").attachments[0].name, "tea.png");
}

async fn a_message_holds_only_complete_uploads_of_its_sender_in_its_room(db: Db) {
    let kept = Kept::open(db).await;
    let lobby = group(&kept.world, "lobby", &["ann", "bob"]).await;
    group(&kept.world, "cellar", &["ann"]).await;
    let (ann, bob) = (kept.user("ann"), kept.user("bob"));
    let good = put(&ann, "lobby", b"abc").await;
    let of_bob = put(&bob, "lobby", b"abc").await;
    let of_backend = put(&kept.world.backend(), "lobby", b"abc").await;
    let elsewhere = put(&ann, "cellar", b"abc").await;
    let unknown = format!("{}-{}", lobby.log_id, "0".repeat(32));
    let before = kept.world.service.store().view(lobby.log_id, None).await.expect("a view");
    let mut told = Vec::new();
    for bad in [&of_bob, &of_backend, &elsewhere, &unknown] {
        let alone = try_send(&ann, holding("lobby", &[bad])).await;
        told.push(refused(alone, Reason::AttachmentNotFound).message().to_owned());
        let beside = try_send(&ann, holding("lobby", &[&good, bad])).await;
        refused(beside, Reason::AttachmentNotFound);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "a foreign one is refused as an unknown one");
    let begun = create(&ann, "lobby", 9).await;
    refused(try_send(&ann, holding("lobby", &[&begun])).await, Reason::AttachmentIncomplete);
    let after = kept.world.service.store().view(lobby.log_id, None).await.expect("a view");
    assert_eq!(before.expect("a log").head, after.expect("a log").head);
    // What was refused took nothing.
    send(&ann, "lobby", &[&good]).await;
}

async fn an_upload_is_held_once(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let [first, second] = [put(&ann, "lobby", b"abc").await, put(&ann, "lobby", b"xyz").await];
    let sent = send(&ann, "lobby", &[&first]).await;
    refused(try_send(&ann, holding("lobby", &[&first])).await, Reason::AttachmentInUse);
    refused(try_send(&ann, holding("lobby", &[&second, &first])).await, Reason::AttachmentInUse);
    let other = send(&ann, "lobby", &[&second]).await;
    refused(try_edit(&ann, &other, vec![stored(&first)]).await, Reason::AttachmentInUse);
    assert_eq!(get(&ann, &first).await.message_id, sent);
    let twice = holding("lobby", &[&first, &first]);
    violates(try_send(&ann, twice).await, "content.attachments[1].attachment_id");
}

async fn of_messages_that_take_an_upload_at_once_one_has_it(db: Db) {
    let kept = Kept::open(db).await;
    let other = kept.another().await;
    let room = group(&kept.world, "lobby", &["ann"]).await;
    let nodes = [kept.user("ann"), other.user("ann")];
    for _ in 0..5 {
        let id = put(&nodes[0], "lobby", b"abc").await;
        let sending = (0..20).map(|n| try_send(&nodes[n % 2], holding("lobby", &[&id])));
        let (sent, rest): (Vec<_>, Vec<_>) =
            join_all(sending).await.into_iter().partition(Result::is_ok);
        assert_eq!((sent.len(), rest.len()), (1, 19));
        for status in rest {
            refused(status, Reason::AttachmentInUse);
        }
        let message_id = sent.into_iter().flatten().next().expect("one").into_inner().message_id;
        assert_eq!(get(&nodes[1], &id).await.message_id, message_id);
    }
    let head = kept.world.service.store().view(room.log_id, None).await.expect("a view");
    assert_eq!(head.expect("a log").head, 2 + 5);
}

async fn a_repeat_of_a_message_is_answered_as_the_first(db: Db) {
    let kept = Kept::open(db).await;
    let room = group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let id = put(&ann, "lobby", b"abc").await;
    let named = |ids: &[&str]| {
        let request_id = "1".to_owned();
        pb::SendMessageRequest { request_id, ..holding("lobby", ids) }
    };
    let first = try_send(&ann, named(&[&id])).await.expect("sent").into_inner();
    assert_eq!(try_send(&ann, named(&[&id])).await.expect("again").into_inner(), first);
    let all = join_all((0..5).map(|_| try_send(&ann, named(&[&id])))).await;
    assert!(all.into_iter().all(|again| again.expect("again").into_inner() == first));
    let words = pb::SendMessageRequest { request_id: "1".to_owned(), ..saying("lobby", "x") };
    refused(try_send(&ann, words).await, Reason::RequestIdReused);
    let other = put(&ann, "lobby", b"abc").await;
    refused(try_send(&ann, named(&[&other])).await, Reason::RequestIdReused);
    // A repeat is answered whatever has become of the sender and of the message since.
    delete(&mut ann.clone(), &first.message_id).await;
    assert_eq!(try_send(&ann, named(&[&id])).await.expect("again").into_inner(), first);
    room.leave("ann").await;
    assert_eq!(try_send(&ann, named(&[&id])).await.expect("again").into_inner(), first);
}

async fn uploads_are_held_by_messages_of_a_stream_too(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let mut messages = Vec::new();
    for n in 0..6 {
        let request_id = n.to_string();
        messages.push(if n % 2 == 0 {
            pb::SendMessageRequest { request_id, ..saying("lobby", "hello") }
        } else {
            let id = put(&ann, "lobby", b"abc").await;
            pb::SendMessageRequest { request_id, ..holding("lobby", &[&id]) }
        });
    }
    let answers = send_messages(&mut ann.clone(), messages).await;
    let seqs: Vec<_> = answers.iter().map(|answer| answer.seq).collect();
    assert_eq!(seqs, [3, 4, 5, 6, 7, 8]);
    for answer in answers.iter().skip(1).step_by(2) {
        assert_eq!(held(&ann, &answer.message_id).await[0].size, 3);
    }
}

async fn an_edit_keeps_takes_and_lets_go(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann", "bob"]).await;
    let (ann, bob) = (kept.user("ann"), kept.user("bob"));
    let mut ids = BTreeMap::new();
    for name in ["kept", "dropped", "new"] {
        ids.insert(name, put(&ann, "lobby", name.as_bytes()).await);
    }
    let sent = send(&ann, "lobby", &[&ids["kept"], &ids["dropped"]]).await;
    let of_bob = put(&bob, "lobby", b"abc").await;
    refused(try_edit(&ann, &sent, vec![stored(&of_bob)]).await, Reason::AttachmentNotFound);
    let edit = vec![stored(&ids["new"]), stored(&ids["kept"])];
    try_edit(&ann, &sent, edit).await.expect("edited");
    let now = held(&bob, &sent).await;
    assert_eq!(now.iter().map(|it| it.size).collect::<Vec<_>>(), [3, 4]);
    for name in ["kept", "new"] {
        assert_eq!(download(&bob, &ids[name], 0).await, name.as_bytes());
        assert_eq!(get(&bob, &ids[name]).await.message_id, sent);
    }
    for client in [&ann, &bob] {
        refused(try_download(client, &ids["dropped"], 0).await, Reason::AttachmentNotFound);
    }
    // It does not come back.
    let back = vec![stored(&ids["dropped"])];
    refused(try_edit(&ann, &sent, back).await, Reason::AttachmentNotFound);
    try_edit(&ann, &sent, Vec::new()).await.expect("edited");
    assert_eq!(held(&bob, &sent).await, []);
    refused(try_get(&bob, &ids["kept"]).await, Reason::AttachmentNotFound);
}

async fn what_is_wrong_with_an_attachment_is_named(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let url = |url: &str| pb::Attachment {
        source: Some(Source::Url(url.to_owned())),
        ..Default::default()
    };
    let good = || url("https://example.org");
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    for (bad, field) in [
        (pb::Attachment::default(), "source"),
        (stored("tea"), "attachment_id"),
        (url("file:///etc/passwd"), "url"),
        (
            pb::Attachment { source: Some(Source::InlineData(vec![0; 4097])), ..good() },
            "inline_data",
        ),
        (pb::Attachment { name: "a\0".to_owned(), ..good() }, "name"),
        (pb::Attachment { content_type: "\n".to_owned(), ..good() }, "content_type"),
        (pb::Attachment { size: -1, ..good() }, "size"),
        (pb::Attachment { width: -1, ..good() }, "width"),
        (pb::Attachment { height: 1_000_001, ..good() }, "height"),
        (pb::Attachment { duration: negative, ..good() }, "duration"),
    ] {
        let attachments = vec![good(), bad];
        let content = Some(pb::MessageContent { attachments, ..text("x") });
        let request = pb::SendMessageRequest { content, ..saying("lobby", "") };
        violates(try_send(&ann, request).await, &format!("content.attachments[1].{field}"));
    }
    let content = Some(pb::MessageContent { attachments: vec![good(); 11], ..text("x") });
    let many = pb::SendMessageRequest { content, ..saying("lobby", "") };
    violates(try_send(&ann, many).await, "content.attachments");
}

async fn a_stranger_does_not_learn_of_a_room_by_an_upload(db: Db) {
    let kept = Kept::open(db).await;
    let room = group(&kept.world, "lobby", &["ann"]).await;
    let unknown = format!("{}-{}", room.log_id, "0".repeat(32));
    let eve = kept.user("eve");
    refused(try_send(&eve, holding("lobby", &[&unknown])).await, Reason::NotAMember);
    let foreign = kept.world.client("globex", Principal::User(UserId::new("ann")));
    refused(try_send(&foreign, holding("lobby", &[&unknown])).await, Reason::RoomNotFound);
}
