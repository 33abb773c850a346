//! Nodes over one database, a bus that can be made to fail, and readers of streams.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parlance_bus::{Bus, Heard, State};
use parlance_db::{Conn, Db};
use parlance_follow::{Hub, Key, Merge, Notice, Options, Span, frames};
use parlance_log::{Actor, Entry, Fact, FactBatch, LogIdentity, RoomKind, Source, Store, testing};
use parlance_message::message::Deletion;
use parlance_message::{Config, Service};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::notice_relay_service_client::NoticeRelayServiceClient;
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::testing::{PATIENCE, called_by, caller, env};
use parlance_rpc::{Caller, Principal, Transport};
use parlance_types::{Clock, LogId, MessageId, RoomId, Seq, SystemClock, TenantId, UserId};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use uuid::Uuid;

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
        let config = Config { stream: options, ..Config::default() };
        let env = env(Arc::new(SystemClock));
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
        let caller = Caller { tenant_id: tenant(), subject: "test".to_owned(), principal, expires };
        StreamServiceClient::new(called_by(self.service.public(), caller, None))
    }

    /// Says that a member types for so long; not at all: has stopped.
    pub(crate) async fn typing(&self, room: &Room, user: &str, lasts: Duration) {
        let caller = caller(tenant().as_str(), Principal::Internal(None));
        let lasts = prost_types::Duration::try_from(lasts).ok();
        let notice = pb::publish_notice_request::Notice::Typing(pb::TypingNotice { lasts });
        let request = pb::PublishNoticeRequest {
            room_id: room.id.to_string(),
            user_id: user.to_owned(),
            notice: Some(notice),
        };
        let relay = called_by(self.service.internal(), caller, None);
        let mut relay = NoticeRelayServiceClient::new(relay);
        relay.publish_notice(request).await.expect("told");
    }

    /// Opens a stream that must open.
    pub(crate) async fn subscribe(&self, user: &str, request: pb::SubscribeRequest) -> Reader {
        self.try_subscribe(user, request).await.expect("a stream")
    }

    pub(crate) async fn try_subscribe(
        &self,
        user: &str,
        request: pb::SubscribeRequest,
    ) -> Result<Reader, Status> {
        let principal = Principal::User(UserId::new(user));
        let stream = self.client(principal).subscribe(request).await?;
        Ok(Reader { stream: stream.into_inner() })
    }

    /// Makes a room whose log begins with its creation and its members.
    pub(crate) async fn room(&self, room_id: &str, members: &[&str]) -> Room {
        self.room_of(room_id, RoomKind::Group, pb::HistoryVisibility::All, members).await
    }

    pub(crate) async fn room_of(
        &self,
        room_id: &str,
        kind: RoomKind,
        history: pb::HistoryVisibility,
        members: &[&str],
    ) -> Room {
        let rules = pb::LogRules { history: history.into(), ..pb::LogRules::default() };
        let created = pb::Event {
            effects: Some(pb::Effects { rules: Some(rules), ..pb::Effects::default() }),
            body: Some(pb::event::Body::RoomCreated(pb::RoomCreated::default())),
            ..pb::Event::default()
        };
        let room = Room {
            log_id: LogId(Uuid::now_v7()),
            id: RoomId::new(room_id),
            version: AtomicI64::new(0),
        };
        let identity = LogIdentity { room_id: room.id.clone(), kind };
        let events = vec![created.encode_to_vec().into(), joined(members)];
        self.apply(&room, events, Some(identity)).await;
        room
    }

    /// Applies one fact; answers the head.
    pub(crate) async fn fact(&self, room: &Room, event: Bytes) -> Seq {
        self.apply(room, vec![event], None).await
    }

    async fn apply(&self, room: &Room, events: Vec<Bytes>, identity: Option<LogIdentity>) -> Seq {
        let version = room.version.fetch_add(1, Ordering::SeqCst) + 1;
        let batch = FactBatch {
            tenant_id: tenant(),
            log_id: room.log_id,
            source: Source::Membership,
            facts: vec![Fact { version, events }],
            identity,
        };
        self.store.apply(batch).await.expect("apply a fact").head
    }

    pub(crate) async fn add(&self, room: &Room, users: &[&str]) -> Seq {
        self.fact(room, joined(users)).await
    }

    pub(crate) async fn remove(&self, room: &Room, user: &str) -> Seq {
        let effects =
            pb::Effects { lost_user_ids: vec![user.to_owned()], ..pb::Effects::default() };
        let left = pb::MembersLeft { user_ids: vec![user.to_owned()], ..Default::default() };
        self.fact(room, event(effects, Some(pb::event::Body::MembersLeft(left)))).await
    }

    pub(crate) async fn close(&self, room: &Room) -> Seq {
        let effects = pb::Effects { closed: true, ..pb::Effects::default() };
        let body = pb::event::Body::RoomClosed(pb::RoomClosed {});
        self.fact(room, event(effects, Some(body))).await
    }

    pub(crate) async fn send(&self, room: &Room, text: &str) -> Seq {
        let payload = testing::sent(None, text);
        let entry = Entry::new(room.log_id, None, None.into(), true, payload);
        self.store.append(entry).await.expect("send").message_id.seq
    }

    pub(crate) async fn delete(&self, room: &Room, seq: Seq) -> Seq {
        let message_id = MessageId { log_id: room.log_id, seq };
        let actor = Actor { tenant_id: tenant(), user: None };
        let deletion = Deletion { actor, message_id, on_delete: &[] };
        self.store.run(deletion).await.expect("delete")
    }
}

/// A receipt of a user, whoever it is.
pub(crate) fn receipt(room: &Room, user: &str, read: Seq, delivered: Seq) -> Notice {
    let user_id = user.to_owned();
    let receipt = pb::Receipt { user_id, read_seq: read, delivered_seq: delivered };
    Notice {
        key: Key { kind: 2, about: Bytes::copy_from_slice(user.as_bytes()) },
        frame: frames::notice(&room.id, pb::notice::Notice::Receipt(receipt)),
        merge: Merge::Greatest(read + delivered),
        span: Span::Moment,
        not_for: None,
    }
}

/// A room, and the version of its last fact.
pub(crate) struct Room {
    pub(crate) log_id: LogId,
    pub(crate) id: RoomId,
    version: AtomicI64,
}

pub(crate) fn event(effects: pb::Effects, body: Option<pb::event::Body>) -> Bytes {
    pb::Event { effects: Some(effects), body, ..pb::Event::default() }.encode_to_vec().into()
}

fn joined(users: &[&str]) -> Bytes {
    let grant = |user: &&str| pb::MemberGrant {
        user_id: (*user).to_owned(),
        role: pb::MemberRole::Member.into(),
    };
    let members: Vec<_> = users.iter().map(grant).collect();
    let effects = pb::Effects { gained: members.clone(), ..pb::Effects::default() };
    event(effects, Some(pb::event::Body::MembersJoined(pb::MembersJoined { members })))
}

/// Follows one room from `seq`.
pub(crate) fn from(room: &Room, epoch: &str, seq: Seq) -> pb::SubscribeRequest {
    let cursor = Some(pb::Cursor { epoch: epoch.to_owned(), seq });
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
pub(crate) struct Reader {
    pub(crate) stream: Streaming<pb::SubscribeResponse>,
}

impl Reader {
    /// The next frame; `None` at the end.
    pub(crate) async fn read(&mut self) -> Result<Option<Frame>, Status> {
        let read = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        let message = read.expect("a frame in time")?;
        Ok(message.map(|message| message.frame.expect("a frame")))
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

    pub(crate) async fn closed(&mut self) -> (Seq, pb::ClosedReason) {
        match self.next().await {
            Frame::Closed(closed) => (closed.seq, closed.reason()),
            other => panic!("closed, not {other:?}"),
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

pub(crate) fn text(event: &pb::Event) -> Option<&str> {
    match event.body.as_ref()? {
        pb::event::Body::MessageSent(sent) => Some(sent.content.as_ref()?.text.as_str()),
        _ => None,
    }
}

pub(crate) fn seqs(events: &[pb::Event]) -> Vec<Seq> {
    events.iter().map(|event| event.seq).collect()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

pub(crate) fn in_millis(millis: i64) -> i64 {
    SystemClock.now() + millis * 1000
}

/// Takes every connection that reads, so that the store hangs until they are dropped.
pub(crate) async fn hang(db: &Db) -> Vec<Conn> {
    let connections = match db {
        Db::Sqlite(db) => db.read.options().get_max_connections(),
        Db::Postgres(db) => db.pool.options().get_max_connections(),
    };
    let readers = join_all((0..connections).map(|_| db.reader())).await;
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
        let enough = || self.swallowed.load(Ordering::SeqCst) >= payloads;
        until("payloads are swallowed", enough).await;
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

/// One node on a reliable bus.
pub(crate) async fn node(db: &Db) -> Node {
    Node::start(db, TestBus::new(Mood::Reliable), hints_only()).await
}
