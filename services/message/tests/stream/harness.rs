//! Nodes over one database, a bus that can be made to fail, and readers of streams.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parlance_bus::{Bus, Heard, State};
use parlance_db::{Conn, Db};
use parlance_follow::{Hub, Key, Merge, Notice, Options, Span, frames};
use parlance_log::{Actor, Appended, Entry, EpochId, Store, StoredEvent, testing};
use parlance_message::message::Deletion;
use parlance_message::{Config, Service};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::mark_service_client::MarkServiceClient;
use parlance_proto::message::v1::notice::Notice as Told;
use parlance_proto::message::v1::notice_relay_service_client::NoticeRelayServiceClient;
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::testing::{called_by, caller, env, eventually, in_time};
use parlance_rpc::{Caller, Principal, Transport};
use parlance_types::{Clock, MessageId, Seq, SystemClock, TenantId, UserId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use crate::rooms::{Room, event};

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme")
}

/// A node of the message service.
pub(crate) struct Node {
    pub(crate) service: Service,
    pub(crate) hub: Hub,
    pub(crate) store: Store,
    pub(crate) draining: CancellationToken,
}

/// Quick timers, so that a test waits for nothing.
pub(crate) fn quick() -> Options {
    Options {
        head_check: Duration::from_millis(50),
        retry: Duration::from_millis(20),
        ..Options::default()
    }
}

/// A node whose hints must do: head checks come too late.
pub(crate) fn hints_only() -> Options {
    Options { head_check: Duration::from_hours(1), ..Options::default() }
}

impl Node {
    pub(crate) async fn start(db: &Db, bus: Arc<dyn Bus>, options: Options) -> Self {
        Self::start_by(db, bus, options, Arc::new(SystemClock)).await
    }

    pub(crate) async fn start_by(
        db: &Db,
        bus: Arc<dyn Bus>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let config = Config { stream: options, ..Config::default() };
        let env = env(clock);
        let service = Service::open(&env, db.clone(), bus, config).await;
        let service = service.expect("open the service");
        service.run();
        let (hub, store) = (service.hub().clone(), service.store().clone());
        Self { service, hub, store, draining: env.draining }
    }

    pub(crate) fn client(&self, principal: Principal) -> StreamServiceClient<Transport> {
        self.client_until(principal, i64::MAX)
    }

    pub(crate) fn client_until(
        &self,
        principal: Principal,
        expires: i64,
    ) -> StreamServiceClient<Transport> {
        let caller = Caller { expires, ..caller(tenant().as_str(), principal) };
        StreamServiceClient::new(called_by(self.service.public(), caller, None))
    }

    /// Says that a member types for so long; not at all: has stopped.
    pub(crate) async fn typing(&self, room: &Room, user: &str, lasts: Duration) {
        let typing = pb::TypingNotice { lasts: prost_types::Duration::try_from(lasts).ok() };
        self.publish(room, user, pb::publish_notice_request::Notice::Typing(typing)).await;
    }

    pub(crate) async fn publish(
        &self,
        room: &Room,
        user: &str,
        notice: pb::publish_notice_request::Notice,
    ) {
        let caller = caller(tenant().as_str(), Principal::Internal(None));
        let (room_id, user_id) = (room.id.to_string(), user.to_owned());
        let request = pb::PublishNoticeRequest { room_id, user_id, notice: Some(notice) };
        let relay = called_by(self.service.internal(), caller, None);
        let mut relay = NoticeRelayServiceClient::new(relay);
        relay.publish_notice(request).await.expect("told");
    }

    /// Marks a room as read by a member.
    pub(crate) async fn mark_read(&self, room: &Room, user: &str, seq: Seq) {
        let caller = caller(tenant().as_str(), Principal::User(UserId::new(user)));
        let mut marks = MarkServiceClient::new(called_by(self.service.public(), caller, None));
        let request = pb::MarkReadRequest { room_id: room.id.to_string(), seq };
        marks.mark_read(request).await.expect("marked");
    }

    /// Opens a stream that must open.
    pub(crate) async fn subscribe(&self, user: &str, request: pb::SubscribeRequest) -> Reader {
        self.try_subscribe(user, request).await.expect("a stream").into_inner()
    }

    pub(crate) async fn try_subscribe(
        &self,
        user: &str,
        request: pb::SubscribeRequest,
    ) -> Result<Response<Reader>, Status> {
        let principal = Principal::User(UserId::new(user));
        let stream = self.client(principal).subscribe(request).await?;
        Ok(stream.map(Reader::new))
    }

    /// Follows the room "r", of which nothing is new.
    pub(crate) async fn follow(&self, user: &str) -> Reader {
        let mut reader = self.subscribe(user, latest(&["r"])).await;
        reader.live().await;
        reader
    }

    pub(crate) async fn send(&self, room: &Room, text: &str) -> Seq {
        let payload = testing::sent(None, text);
        let entry = Entry::new(
            room.log_id,
            Actor { tenant_id: tenant(), user: None },
            None.into(),
            true,
            payload,
        );
        self.store.append(entry).await.expect("send").message_id.seq
    }

    pub(crate) async fn delete(&self, room: &Room, seq: Seq) -> Seq {
        let message_id = MessageId { log_id: room.log_id, seq };
        let actor = Actor { tenant_id: tenant(), user: None };
        let deletion = Deletion { actor, message_id, on_delete: &[] };
        self.store.run(deletion).await.expect("delete")
    }
}

impl AsRef<Store> for Node {
    fn as_ref(&self) -> &Store {
        &self.store
    }
}

/// A receipt of a user, whoever it is.
pub(crate) fn receipt(room: &Room, user: &str, read: Seq, delivered: Seq) -> Notice {
    let user_id = user.to_owned();
    let receipt = pb::Receipt { user_id, read_seq: read, delivered_seq: delivered };
    Notice {
        key: Key { kind: 2, about: Bytes::copy_from_slice(user.as_bytes()) },
        frame: frames::notice(&room.id, Told::Receipt(receipt)),
        merge: Merge::Greatest(read + delivered),
        span: Span::Moment,
        by: None,
        to: None,
        epoch: None,
    }
}

/// Follows one room from `seq`.
pub(crate) fn from(room: &Room, epoch: &str, seq: Seq) -> pb::SubscribeRequest {
    let cursor = Some(pb::Cursor { epoch: epoch.to_owned(), seq, time: None });
    let rooms = vec![pb::RoomCursor { room_id: room.id.to_string(), cursor }];
    pb::SubscribeRequest { rooms, ..pb::SubscribeRequest::default() }
}

/// Follows rooms without cursors.
pub(crate) fn latest(rooms: &[&str]) -> pb::SubscribeRequest {
    let room = |room: &&str| pb::RoomCursor { room_id: (*room).to_owned(), ..Default::default() };
    let rooms = rooms.iter().map(room).collect();
    pb::SubscribeRequest { rooms, ..pb::SubscribeRequest::default() }
}

pub(crate) fn all_rooms(start: pb::StreamStart) -> pb::SubscribeRequest {
    pb::SubscribeRequest { all_my_rooms: true, start: start.into(), rooms: Vec::new() }
}

/// Reads a stream.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: Streaming<pb::SubscribeResponse>,
    /// Marks that came between other frames.
    pub(crate) marks: VecDeque<pb::Notice>,
}

impl Reader {
    pub(crate) fn new(stream: Streaming<pb::SubscribeResponse>) -> Self {
        Self { stream, marks: VecDeque::new() }
    }

    /// The next frame, without the marks that come with every room; `None` at the end.
    pub(crate) async fn read(&mut self) -> Result<Option<Frame>, Status> {
        loop {
            match self.read_any().await? {
                Some(Frame::Notice(notice)) if marks(&notice).is_some() => {
                    self.marks.push_back(notice);
                }
                frame => return Ok(frame),
            }
        }
    }

    async fn read_any(&mut self) -> Result<Option<Frame>, Status> {
        let message = in_time(self.stream.message()).await?;
        Ok(message.map(|message| message.frame.expect("a frame")))
    }

    /// The next marks that come with a room, whatever else comes: who, read, delivered.
    pub(crate) async fn marks(&mut self, room_id: &str) -> Vec<(String, Seq, Seq)> {
        loop {
            let notice = match self.marks.pop_front() {
                Some(notice) => notice,
                None => match self.read_any().await.expect("no failure") {
                    Some(Frame::Notice(notice)) => notice,
                    _ => continue,
                },
            };
            if notice.room_id == room_id
                && let Some(marks) = marks(&notice)
            {
                return marks;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Frame {
        self.read().await.expect("no failure").expect("no end")
    }

    pub(crate) async fn attached(&mut self) -> pb::Attached {
        match self.next().await {
            Frame::Attached(attached) => attached,
            other => panic!("attached, not {other:?}"),
        }
    }

    /// What comes first of one room of which nothing is new.
    pub(crate) async fn live(&mut self) -> pb::Attached {
        let attached = self.attached().await;
        assert_eq!(self.caught_up().await, attached.head);
        attached
    }

    pub(crate) async fn event(&mut self) -> pb::Event {
        match self.next().await {
            Frame::Event(event) => event.event.expect("an event"),
            other => panic!("an event, not {other:?}"),
        }
    }

    pub(crate) async fn caught_up(&mut self) -> Seq {
        match self.next().await {
            Frame::CaughtUp(caught_up) => caught_up.seq,
            other => panic!("caught up, not {other:?}"),
        }
    }

    /// Everything until so many rooms are caught up.
    pub(crate) async fn all_caught_up(&mut self, rooms: usize) {
        let mut caught_up = 0;
        while caught_up < rooms {
            caught_up += usize::from(matches!(self.next().await, Frame::CaughtUp(_)));
        }
    }

    pub(crate) async fn closed(&mut self) -> (Seq, pb::ClosedReason) {
        match self.next().await {
            Frame::Closed(closed) => (closed.seq, closed.reason()),
            other => panic!("closed, not {other:?}"),
        }
    }

    /// The next receipt, whatever else comes: who, read, delivered.
    pub(crate) async fn receipt(&mut self) -> (String, Seq, Seq) {
        loop {
            if let Frame::Notice(notice) = self.next().await {
                let Some(Told::Receipt(told)) = notice.notice else { panic!("{notice:?}") };
                return (told.user_id, told.read_seq, told.delivered_seq);
            }
        }
    }

    /// Events, whatever else comes, until one has this seq.
    pub(crate) async fn events_until(&mut self, seq: Seq) -> Vec<pb::Event> {
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &pb::Event| event.seq < seq) {
            if let Frame::Event(event) = self.next().await {
                events.push(event.event.expect("an event"));
            }
        }
        events
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read().await.expect("no failure") {
            frames.push(frame);
        }
        frames
    }
}

fn marks(notice: &pb::Notice) -> Option<Vec<(String, Seq, Seq)>> {
    let Some(Told::Receipts(marks)) = &notice.notice else { return None };
    let of = |told: &pb::Receipt| (told.user_id.clone(), told.read_seq, told.delivered_seq);
    Some(marks.receipts.iter().map(of).collect())
}

pub(crate) fn text(event: &pb::Event) -> Option<&str> {
    match event.body.as_ref()? {
        pb::event::Body::MessageSent(sent) => Some(sent.content.as_ref()?.text.as_str()),
        _ => None,
    }
}

pub(crate) fn seqs(events: &[pb::Event]) -> Vec<Seq> {
    events.iter().map(|event| event.seq).collect()
}

/// Events of a room that only its streams are told of.
pub(crate) fn appended(room: &Room, epoch: &EpochId, seqs: RangeInclusive<Seq>) -> Appended {
    let payload = event(pb::Effects::default(), None);
    let event = |seq| StoredEvent { seq, time: 0, payload: payload.clone() };
    Appended {
        tenant_id: tenant(),
        log_id: room.log_id,
        room_id: room.id.clone(),
        epoch: epoch.clone(),
        events: seqs.map(event).collect(),
        users: Vec::new(),
    }
}

pub(crate) fn in_millis(millis: i64) -> i64 {
    SystemClock.now() + millis * 1000
}

/// Takes every connection that reads, so that the store hangs until they are dropped.
pub(crate) async fn hang(db: &Db) -> Vec<Conn> {
    let readers = join_all((0..db.read_connections()).map(|_| db.reader())).await;
    readers.into_iter().collect::<Result<_, _>>().expect("every connection")
}

/// What the bus does with payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Reliable,
    /// Loses, repeats and reorders.
    Confused,
    Silent,
}

/// A bus between nodes that can be made to fail.
#[derive(Debug)]
pub(crate) struct TestBus {
    mood: Mutex<Mood>,
    subscribers: Mutex<Vec<mpsc::Sender<Heard>>>,
    held: Mutex<(usize, Vec<Bytes>)>,
    published: AtomicUsize,
    /// Payloads swallowed in silence.
    swallowed: AtomicUsize,
    state: watch::Sender<State>,
}

impl TestBus {
    pub(crate) fn new(mood: Mood) -> Arc<Self> {
        let (subscribers, held) = (Mutex::default(), Mutex::default());
        let (published, swallowed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let state = watch::Sender::new(State::Up);
        Arc::new(Self { mood: Mutex::new(mood), subscribers, held, published, swallowed, state })
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().expect("a mood") = mood;
    }

    /// Comes or goes, as a bus that knows it.
    pub(crate) fn turn(&self, state: State) {
        self.state.send_replace(state);
    }

    pub(crate) fn disturb(&self) {
        self.deliver(&Heard::Disturbed);
    }

    /// Payloads that were published so far.
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::SeqCst)
    }

    /// Waits until at least so many payloads were swallowed in silence.
    pub(crate) async fn swallowed(&self, payloads: usize) {
        eventually(|| async { self.swallowed.load(Ordering::SeqCst) >= payloads }).await;
    }

    fn deliver(&self, heard: &Heard) {
        for subscriber in self.subscribers.lock().expect("subscribers").iter() {
            // One that is too slow loses it: the bus is lossy.
            drop(subscriber.try_send(heard.clone()));
        }
    }
}

impl Bus for TestBus {
    fn publish(&self, _shard: u16, payload: Bytes) {
        self.published.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().expect("a mood");
        if mood == Mood::Silent {
            self.swallowed.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let mut now = vec![payload.clone()];
        if mood == Mood::Confused {
            let mut held = self.held.lock().expect("held payloads");
            held.0 += 1;
            match held.0 % 7 {
                0 | 3 => now.clear(),
                1 => now.push(payload),
                2 => {
                    now.clear();
                    held.1.push(payload);
                }
                5 => now.append(&mut held.1),
                _ => {}
            }
        }
        for payload in now {
            self.deliver(&Heard::Payload(payload));
        }
    }

    fn publish_notice(&self, shard: u16, payload: Bytes) {
        self.publish(shard, payload);
    }

    fn reaches_others(&self) -> bool {
        true
    }

    fn subscribe(&self) -> mpsc::Receiver<Heard> {
        let (sender, receiver) = mpsc::channel(1024);
        self.subscribers.lock().expect("subscribers").push(sender);
        receiver
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    fn dropped(&self) -> u64 {
        0
    }
}

/// Disturbs the bus, and waits until so many nodes have told again what they remember.
pub(crate) async fn again(bus: &TestBus, nodes: usize) {
    let before = bus.published();
    bus.disturb();
    eventually(|| async { bus.published() >= before + nodes }).await;
}

/// One node on a reliable bus.
pub(crate) async fn node(db: &Db) -> Node {
    node_with(db, hints_only()).await
}

pub(crate) async fn node_with(db: &Db, options: Options) -> Node {
    Node::start(db, TestBus::new(Mood::Reliable), options).await
}

/// A bus with two nodes on it.
pub(crate) async fn two_nodes(db: &Db, mood: Mood, options: Options) -> (Arc<TestBus>, Node, Node) {
    let bus = TestBus::new(mood);
    let here = Node::start(db, bus.clone(), options.clone()).await;
    let there = Node::start(db, bus.clone(), options).await;
    (bus, here, there)
}
