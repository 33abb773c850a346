//! `SendMessages`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{Stream, StreamExt as _, stream};
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::list_messages_request::Position;
use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::send_messages_response::Answer;
use parlance_rpc::testing::{called_by, eventually, in_time};
use parlance_rpc::{Caller, Principal, Reason, Transport};
use parlance_types::{LogId, UserId};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Response, Status, Streaming};

use crate::callers::lock;
use crate::harness::{Client, TENANT, World, caller, refused, saying, text, violates};
use crate::rooms::{group, plan};
use crate::stream::harness::{hints_only, node, node_with};

test_on_each_db!(parlance_message::MIGRATIONS =>
    answers_come_in_the_order_of_the_requests_and_so_do_numbers,
    what_is_refused_is_answered_as_the_call_of_one_would_and_ends_nothing,
    a_message_without_a_request_id_is_refused,
    rights_that_change_in_the_middle_hold_from_there_on,
    a_stream_that_is_cut_goes_on_by_its_request_ids,
    no_more_than_256_messages_wait_for_their_answers,
    a_token_that_expires_ends_the_stream,
    a_node_that_drains_answers_what_it_has_read,
    a_stream_shows_that_it_lives_and_ends_when_nothing_comes,
    a_stream_ends_when_its_life_is_over,
);

fn named(room_id: &str, request_id: &str, words: &str) -> pb::SendMessageRequest {
    pb::SendMessageRequest { request_id: request_id.to_owned(), ..saying(room_id, words) }
}

fn request(message: pb::SendMessageRequest) -> pb::SendMessagesRequest {
    pb::SendMessagesRequest { message: Some(message) }
}

/// The next answer; `None` at the end of the stream, which went well.
async fn next(
    answers: &mut Streaming<pb::SendMessagesResponse>,
) -> Result<Option<Result<pb::SendMessageResponse, Status>>, Status> {
    loop {
        let Some(response) = in_time(answers.message()).await? else { return Ok(None) };
        match response.answer {
            Some(Answer::Sent(sent)) => return Ok(Some(Ok(sent))),
            Some(Answer::Refused(bytes)) => return Ok(Some(Err(status(bytes)))),
            None => {}
        }
    }
}

fn status(bytes: Vec<u8>) -> Status {
    let decoded = tonic_types::Status::decode(&*bytes).expect("a status");
    Status::with_details(Code::from(decoded.code), decoded.message, bytes.into())
}

/// Sends messages through one stream, all of which are stored.
pub(crate) async fn send_messages(
    client: &mut Client,
    messages: Vec<pb::SendMessageRequest>,
) -> Vec<pb::SendMessageResponse> {
    let answers = client.messages.send_messages(stream::iter(messages).map(request)).await;
    let (mut answers, mut all) = (answers.expect("a stream").into_inner(), Vec::new());
    while let Some(answer) = next(&mut answers).await.expect("no failure") {
        all.push(answer.expect("sent"));
    }
    all
}

/// A stream through which a test sends as it goes.
struct Sending {
    requests: UnboundedSender<pb::SendMessagesRequest>,
    answers: Streaming<pb::SendMessagesResponse>,
}

impl Sending {
    async fn open(client: &Client) -> Self {
        Self::through(client.messages.clone()).await
    }

    async fn through(mut client: MessageServiceClient<Transport>) -> Self {
        let (requests, sent) = unbounded();
        let answers = client.send_messages(sent).await.expect("a stream").into_inner();
        Self { requests, answers }
    }

    fn put(&self, message: pb::SendMessageRequest) {
        self.requests.unbounded_send(request(message)).expect("the stream is open");
    }

    async fn send(
        &mut self,
        message: pb::SendMessageRequest,
    ) -> Result<Response<pb::SendMessageResponse>, Status> {
        self.put(message);
        let answer = next(&mut self.answers).await.expect("no failure").expect("no end");
        answer.map(Response::new)
    }

    /// How the stream failed.
    async fn failure(&mut self) -> Status {
        next(&mut self.answers).await.expect_err("a failure")
    }
}

/// What stands in a room, in order.
async fn texts(world: &World, room_id: &str) -> Vec<String> {
    let (mut texts, mut page_token) = (Vec::new(), String::new());
    loop {
        let list = pb::ListMessagesRequest {
            room_id: room_id.to_owned(),
            position: Some(Position::AfterSeq(0)),
            page_size: 100,
            page_token,
            ..Default::default()
        };
        let page = world.backend().messages.list_messages(list).await.expect("a page").into_inner();
        let contents = page.messages.into_iter().map(|message| message.content);
        texts.extend(contents.map(|content| content.expect("a content").text));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return texts;
        }
    }
}

/// B-095.
async fn answers_come_in_the_order_of_the_requests_and_so_do_numbers(db: Db) {
    let world = World::open(db).await;
    let rooms = ["lobby", "cellar", "attic"];
    let mut logs: Vec<LogId> = Vec::new();
    for room in rooms {
        logs.push(group(&world, room, &["ann"]).await.log_id);
    }
    let messages = (0..300).map(|n| named(rooms[n % 3], &n.to_string(), &n.to_string())).collect();

    let answers = send_messages(&mut world.user("ann"), messages).await;

    assert_eq!(answers.len(), 300);
    for (n, sent) in answers.iter().enumerate() {
        let seq = i64::try_from(3 + n / 3).expect("small");
        assert_eq!(sent.message_id, format!("{}-{seq}", logs[n % 3]));
        assert_eq!((sent.seq, sent.epoch.is_empty()), (seq, false));
        assert!(sent.send_time.is_some());
    }
    let expected: Vec<_> = (0..100).map(|n| (3 * n).to_string()).collect();
    assert_eq!(texts(&world, "lobby").await, expected);
}

/// B-208.
async fn what_is_refused_is_answered_as_the_call_of_one_would_and_ends_nothing(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    group(&world, "cellar", &["bob"]).await;
    let mut ann = world.user("ann");
    let mut stream = Sending::open(&ann).await;
    for bad in [
        named("cellar", "1", "hello"),
        named("nowhere", "2", "hello"),
        named("", "3", "hello"),
        named("lobby", "4", ""),
        named("lobby", "\n", "hello"),
        pb::SendMessageRequest { content: None, ..named("lobby", "5", "") },
    ] {
        let of_one = ann.messages.send_message(bad.clone()).await.expect_err("refused");
        let of_many = stream.send(bad).await.expect_err("refused");
        assert_eq!((of_many.code(), of_many.message()), (of_one.code(), of_one.message()));
        assert_eq!(of_many.details(), of_one.details());
    }
    let empty = pb::SendMessagesRequest { message: None };
    stream.requests.unbounded_send(empty).expect("the stream is open");
    let answer = next(&mut stream.answers).await.expect("no failure").expect("no end");
    violates(answer.map(Response::new), "request_id");
    let sent = stream.send(named("lobby", "6", "hello")).await.expect("sent").into_inner();
    assert_eq!(sent.seq, 3);
    let reused = stream.send(named("lobby", "6", "bye")).await;
    refused(reused, Reason::RequestIdReused);
    drop(stream.requests);
    assert!(next(&mut stream.answers).await.expect("OK").is_none());
}

async fn a_message_without_a_request_id_is_refused(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut stream = Sending::open(&world.user("ann")).await;
    violates(stream.send(saying("lobby", "hello")).await, "request_id");
    stream.send(named("lobby", "1", "hello")).await.expect("sent");
    // A backend's ids are its own.
    let mut backend = Sending::open(&world.backend()).await;
    backend.send(named("lobby", "1", "something else")).await.expect("sent");
}

async fn rights_that_change_in_the_middle_hold_from_there_on(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").owned(&["ann", "bob"]).make(&world).await;
    let mut stream = Sending::open(&world.user("bob")).await;
    stream.send(named("lobby", "1", "one")).await.expect("sent");
    room.leave("bob").await;
    refused(stream.send(named("lobby", "2", "two")).await, Reason::NotAMember);
    let again = stream.send(named("lobby", "1", "one")).await.expect("the first reply");
    room.join("bob").await;
    let sent = stream.send(named("lobby", "2", "two")).await.expect("sent").into_inner();
    assert!(sent.seq > again.into_inner().seq);
    room.close().await;
    refused(stream.send(named("lobby", "3", "three")).await, Reason::RoomNotFound);
}

/// B-098.
async fn a_stream_that_is_cut_goes_on_by_its_request_ids(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let words: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    let all = || words.iter().map(|n| named("lobby", n, n)).collect::<Vec<_>>();
    let mut before = Vec::new();
    for read in [1, 100, 400] {
        let mut stream = Sending::open(&world.user("ann")).await;
        for message in all() {
            stream.put(message);
        }
        let mut answers = Vec::new();
        for _ in 0..read {
            let answer = next(&mut stream.answers).await.expect("no failure").expect("no end");
            answers.push(answer.expect("sent"));
        }
        assert_eq!(answers[..before.len()], before);
        before = answers;
    }
    let answers = send_messages(&mut world.user("ann"), all()).await;
    assert_eq!(answers[..before.len()], before);
    assert_eq!(answers.len(), words.len());
    let mut stored = texts(&world, "lobby").await;
    stored.sort();
    let mut once = words.clone();
    once.sort();
    assert_eq!(stored, once);
}

/// A thousand large messages, which count when they are asked for.
fn thousand(asked: Arc<AtomicUsize>) -> impl Stream<Item = pb::SendMessagesRequest> {
    stream::iter(0..1000).map(move |n: i32| {
        asked.fetch_add(1, Ordering::Relaxed);
        let content = Some(text(&"x".repeat(4000)));
        request(pb::SendMessageRequest { content, ..named("lobby", &n.to_string(), "") })
    })
}

async fn no_more_than_256_messages_wait_for_their_answers(db: Db) {
    // What the client encodes at once beyond what the server reads.
    const ENCODED: usize = 16;
    let world = World::open(db.clone()).await;
    group(&world, "lobby", &["ann"]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let (mut ann, messages) = (world.user("ann"), thousand(Arc::clone(&asked)));
    let lock = lock(&db).await;
    let reading = tokio::spawn(async move {
        let answers = ann.messages.send_messages(messages).await;
        let (mut answers, mut seqs) = (answers.expect("a stream").into_inner(), Vec::new());
        while let Some(answer) = next(&mut answers).await.expect("no failure") {
            seqs.push(answer.expect("sent").seq);
        }
        seqs
    });
    eventually(|| async { asked.load(Ordering::Relaxed) >= 256 }).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((256..=256 + ENCODED).contains(&asked), "{asked}");
    drop(lock);
    let seqs = in_time(reading).await.expect("no panic");
    assert_eq!(seqs, (3..1003).collect::<Vec<_>>());
}

fn ann_until(expires: i64) -> Caller {
    Caller { expires, ..caller(TENANT, Principal::User(UserId::new("ann"))) }
}

async fn a_token_that_expires_ends_the_stream(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let client = world.with(Some(ann_until(60_000_000)), None);
    let mut stream = Sending::open(&client).await;
    stream.send(named("lobby", "1", "hello")).await.expect("sent");
    world.clock.advance(60_000_000);
    stream.put(named("lobby", "2", "hello"));
    let ended = stream.failure().await;
    refused(Err::<Response<()>, _>(ended), Reason::TokenExpired);
}

async fn a_node_that_drains_answers_what_it_has_read(db: Db) {
    let node = node(&db).await;
    group(&node, "lobby", &["ann"]).await;
    let transport = || called_by(node.service.public(), ann_until(i64::MAX), None);
    let mut stream = Sending::through(MessageServiceClient::new(transport())).await;
    stream.send(named("lobby", "1", "hello")).await.expect("sent");
    node.draining.cancel();
    let ended = stream.failure().await;
    refused(Err::<Response<()>, _>(ended), Reason::Draining);
    let nothing = stream::empty::<pb::SendMessagesRequest>();
    let late = MessageServiceClient::new(transport()).send_messages(nothing).await;
    refused(late, Reason::Draining);
}

/// Beyond what a proxy allows a silent stream.
async fn a_stream_shows_that_it_lives_and_ends_when_nothing_comes(db: Db) {
    let world = World::open(db).await;
    let mut stream = Sending::open(&world.user("ann")).await;
    tokio::time::pause();
    let (began, mut last, mut signs) = (Instant::now(), Instant::now(), 0);
    while let Some(sign) = stream.answers.message().await.expect("no failure") {
        assert_eq!(sign.answer, None);
        let quiet = last.elapsed().as_secs();
        assert!((14..=31).contains(&quiet), "{quiet}");
        (last, signs) = (Instant::now(), signs + 1);
    }
    let lasted = began.elapsed();
    tokio::time::resume();
    assert!(signs >= 19, "{signs}");
    assert!((595..=605).contains(&lasted.as_secs()), "{lasted:?}");
}

async fn a_stream_ends_when_its_life_is_over(db: Db) {
    let mut options = hints_only();
    options.life = Duration::from_millis(10)..=Duration::from_millis(10);
    let node = node_with(&db, options).await;
    let transport = called_by(node.service.public(), ann_until(i64::MAX), None);
    let mut stream = Sending::through(MessageServiceClient::new(transport)).await;
    let ended = stream.failure().await;
    refused(Err::<Response<()>, _>(ended), Reason::Draining);
}
