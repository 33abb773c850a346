//! The whole suite within this process, and clients of presence.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlance_bus::testing::{Proxy, RedisCluster, redis_url};
use parlance_bus::{InProcessBus, RedisUrl};
use parlance_db::{Db, Location, Migrations, testing};
use parlance_presence::state::{Doubt, MemorySessions, RedisSessions, Sessions};
use parlance_presence::{Leases, MIGRATIONS, Options, Service, Share};
use parlance_proto::membership::v1::membership_service_client::MembershipServiceClient;
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::membership::v1::{AddMembersRequest, BatchUpsertUsersRequest, User};
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{RoomCursor, RoomKind, SubscribeRequest, SubscribeResponse};
use parlance_proto::presence::v1 as pb;
use parlance_proto::presence::v1::presence_service_client::PresenceServiceClient;
use parlance_proto::presence::v1::session_service_client::SessionServiceClient;
use parlance_proto::presence::v1::typing_service_client::TypingServiceClient;
use parlance_proto::room::v1::CreateRoomRequest;
use parlance_proto::room::v1::room_service_client::RoomServiceClient;
pub(crate) use parlance_rpc::testing::{acme, caller, eventually, in_time, refused, violates};
use parlance_rpc::testing::{called_by, suite};
use parlance_rpc::{Caller, Env, Principal, Reason, Tasks, Transport, public};
use parlance_types::{ManualClock, UserId};
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// Clients of one caller.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) presence: PresenceServiceClient<Transport>,
    pub(crate) sessions: SessionServiceClient<Transport>,
    pub(crate) typing: TypingServiceClient<Transport>,
}

/// The time at which every test begins, in seconds.
pub(crate) const START: i64 = 1_800_000_000;

/// How long who has no session is unknown, from the start on.
pub(crate) const DOUBT: Duration = Duration::from_millis(700);

/// How often nodes look at those who are watched.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// How long typing lasts.
pub(crate) const TYPING: Duration = Duration::from_millis(600);

pub(crate) struct World {
    /// The first node.
    service: Option<Service>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) message: parlance_message::Service,
    pub(crate) room: parlance_room::Service,
    pub(crate) membership: parlance_membership::Service,
    /// The database of membership.
    pub(crate) members: Db,
    /// Of every node.
    pub(crate) draining: CancellationToken,
    db: Db,
    home: Home,
    /// Where the sessions of further nodes are.
    further: Arc<Mutex<Home>>,
    to_membership: Transport,
    to_message: Transport,
    env: Env,
    running: Vec<Tasks>,
    /// When it was begun to make it.
    pub(crate) began: Instant,
    _folder: TempDir,
}

/// Where sessions are.
#[derive(Clone)]
pub(crate) enum Home {
    Memory(Arc<MemorySessions>),
    /// In a Redis, under keys of one test.
    Redis {
        url: RedisUrl,
        space: String,
    },
    /// In a cluster of one test's own.
    Cluster(RedisUrl),
}

impl Home {
    fn sessions(&self) -> Arc<dyn Sessions> {
        match self {
            Self::Memory(sessions) => Arc::clone(sessions) as _,
            Self::Redis { url, space } => {
                Arc::new(RedisSessions::open(url, space, doubt()).expect("an address"))
            }
            Self::Cluster(url) => {
                Arc::new(RedisSessions::open(url, "test", doubt()).expect("an address"))
            }
        }
    }

    async fn lose(&self) {
        match self {
            Self::Memory(sessions) => sessions.lose(),
            Self::Cluster(_) => unreachable!("it is lost node by node"),
            Self::Redis { url, space } => {
                let client = redis::Client::open(url.servers()[0].as_str()).expect("a URL");
                let mut admin =
                    client.get_multiplexed_async_connection().await.expect("Redis answers");
                let mut all = redis::cmd("KEYS");
                all.arg(format!("{space}:*"));
                let keys: Vec<String> = all.query_async(&mut admin).await.expect("keys");
                if !keys.is_empty() {
                    let mut delete = redis::cmd("DEL");
                    delete.arg(keys);
                    delete.query_async::<()>(&mut admin).await.expect("deleted");
                }
            }
        }
    }
}

fn doubt() -> Doubt {
    Doubt { gap: Duration::from_secs(5), lasts: DOUBT }
}

pub(crate) fn options() -> Options {
    let second = Duration::from_secs(1);
    Options {
        watch: LOOK,
        ended: LOOK,
        seat_walk: LOOK,
        stale: Duration::from_millis(400),
        typing: TYPING,
        leases: Leases { shortest: second / 10, default: 30 * second, longest: 60 * second },
        per_caller: Share { streams: 3, watched: 300 },
        spread: Duration::from_millis(100),
        ..Options::default()
    }
}

/// Runs `test` on SQLite and memory.
pub(crate) async fn embedded<F: Future<Output = World>>(test: impl FnOnce(World) -> F) {
    testing::on_sqlite(MIGRATIONS, async |db| {
        let home = Home::Memory(Arc::new(MemorySessions::new(doubt())));
        Box::pin(Box::pin(test(World::new(db, home).await)).await.stop()).await;
    })
    .await;
}

/// Runs `test` on Postgres and Redis.
pub(crate) async fn distributed<F: Future<Output = World>>(test: impl FnOnce(World) -> F) {
    let url = redis_url("TEST_REDIS_URL");
    let home = Home::Redis { url, space: uuid::Uuid::new_v4().simple().to_string() };
    testing::on_postgres(MIGRATIONS, async |db| {
        Box::pin(Box::pin(test(World::new(db, home.clone()).await)).await.stop()).await;
        home.lose().await;
    })
    .await;
}

/// Runs `test` on memory and a Postgres behind a link that may fall silent.
pub(crate) async fn linked<F: Future<Output = World>>(
    test: impl FnOnce(World, testing::Link) -> F,
) {
    let home = Home::Memory(Arc::new(MemorySessions::new(doubt())));
    testing::on_linked_postgres(MIGRATIONS, async |db, link| {
        Box::pin(Box::pin(test(World::new(db, home).await, link)).await.stop()).await;
    })
    .await;
}

/// Runs `test` on SQLite and a Redis Cluster, of which it may harm the nodes.
pub(crate) async fn on_a_cluster<F: Future<Output = World>>(
    test: impl FnOnce(World, RedisCluster) -> F,
) {
    let cluster = RedisCluster::start().await;
    let home = Home::Cluster(cluster.url());
    testing::on_sqlite(MIGRATIONS, async |db| {
        Box::pin(Box::pin(test(World::new(db, home).await, cluster)).await.stop()).await;
    })
    .await;
}

impl World {
    async fn new(db: Db, home: Home) -> Self {
        let began = Instant::now();
        let clock = Arc::new(ManualClock::at(START * 1_000_000));
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = async |name: &str, migrations: Migrations| {
            let location = Location::Sqlite(folder.path().join(name));
            Db::open(&location, migrations).await.expect("open SQLite")
        };
        let (env, verified) = suite(Arc::clone(&clock) as _).await;

        let logs = sqlite("message", parlance_message::MIGRATIONS).await;
        let bus = Arc::new(InProcessBus::default());
        let config = parlance_message::Config::default();
        let message = parlance_message::Service::open(&env, logs, bus, config);
        let message = message.await.expect("open the logs");
        message.run();
        let to_message = verified.in_process(message.internal().into_routes());

        let users = sqlite("membership", parlance_membership::MIGRATIONS).await;
        let membership =
            parlance_membership::Service::open(&env, users.clone(), to_message.clone());
        let to_membership = verified.in_process(membership.internal().into_routes());

        let rooms = sqlite("room", parlance_room::MIGRATIONS).await;
        let (rosters, logs) = (to_membership.clone(), to_message.clone());
        let room = parlance_room::Service::open(&env, rooms, rosters, logs);
        let further = Arc::new(Mutex::new(home.clone()));
        let mut world = Self {
            service: None,
            clock,
            message,
            room,
            membership,
            members: users,
            draining: env.draining.clone(),
            db,
            home,
            further,
            to_membership,
            to_message,
            env,
            running: Vec::new(),
            began,
            _folder: folder,
        };
        world.service = Some(world.node());
        world
    }

    /// The first node.
    pub(crate) fn first(&self) -> &Service {
        self.service.as_ref().expect("opened with the world")
    }

    fn open_with(&self, options: Options) -> (Service, Tasks) {
        let env = Env { tasks: Tasks::default(), ..self.env.clone() };
        let sessions = self.further.lock().expect("no test panics with it").sessions();
        let (rosters, logs) = (self.to_membership.clone(), self.to_message.clone());
        let service = Service::open(&env, self.db.clone(), sessions, rosters, logs, options);
        (service, env.tasks)
    }

    /// Another node of the presence service that looks at nobody.
    pub(crate) fn fresh(&self) -> (Service, Tasks) {
        self.open_with(options())
    }

    /// Another node of the presence service.
    pub(crate) fn node(&mut self) -> Service {
        self.node_with(options())
    }

    /// A node that is laid out differently.
    pub(crate) fn node_with(&mut self, options: Options) -> Service {
        let (service, tasks) = self.open_with(options);
        service.run();
        self.running.push(tasks);
        service
    }

    /// Takes away the table of when users were last seen, as if the database failed.
    pub(crate) async fn hide_last_seen(&self) {
        self.change("ALTER TABLE last_seen RENAME TO hidden").await;
    }

    pub(crate) async fn show_last_seen(&self) {
        self.change("ALTER TABLE hidden RENAME TO last_seen").await;
    }

    async fn change(&self, statement: &'static str) {
        self.db.write(statement).execute().await.expect("changed");
    }

    /// Stops what runs.
    async fn stop(mut self) {
        self.still().await;
        self.message.close().await;
    }

    /// Stops what nodes do by themselves.
    pub(crate) async fn still(&mut self) {
        for tasks in self.running.drain(..) {
            in_time(tasks.close()).await;
            assert_eq!(tasks.broken_by(), None);
        }
    }

    /// Lets nodes to come reach Redis by a way that can be cut.
    pub(crate) async fn cut_off(&self) -> Proxy {
        let Home::Redis { url, space } = &self.home else { panic!("there is no way to memory") };
        let link = Proxy::to(url).await;
        let (url, space) = (link.url().clone(), space.clone());
        *self.further.lock().expect("no test panics with it") = Home::Redis { url, space };
        link
    }

    /// Lets the state be lost.
    pub(crate) async fn lose(&self) {
        self.home.lose().await;
    }

    pub(crate) fn client(&self, tenant: &str, principal: Principal) -> Client {
        on(self.first(), caller(tenant, principal))
    }

    /// A client of a user of the tenant acme.
    pub(crate) fn user(&self, user: &str) -> Client {
        self.client("acme", Principal::User(UserId::new(user)))
    }

    /// A client of a service of the tenant acme that acts for nobody.
    pub(crate) fn backend(&self) -> Client {
        self.client("acme", Principal::Service)
    }

    /// A client of a service of the tenant acme that acts for a user.
    pub(crate) fn service_for(&self, user: &str) -> Client {
        self.client("acme", Principal::ServiceFor(UserId::new(user)))
    }

    /// Makes a room that Ann owns, or a broadcast.
    pub(crate) async fn room(&self, room_id: &str, kind: RoomKind, members: &[&str]) {
        let backend = caller("acme", Principal::Service);
        let users = called_by(public![self.membership.users()], backend, None);
        let mut users = UserServiceClient::new(users);
        let user = |id: &&str| User { user_id: (*id).to_owned(), ..User::default() };
        let known = BatchUpsertUsersRequest { users: members.iter().map(user).collect() };
        if !members.is_empty() {
            users.batch_upsert_users(known).await.expect("users");
        }
        let by = match kind {
            RoomKind::Broadcast => caller("acme", Principal::Service),
            _ => acme("ann"),
        };
        let mut rooms = RoomServiceClient::new(called_by(self.room.public(), by, None));
        let request = CreateRoomRequest {
            room_id: room_id.to_owned(),
            kind: kind.into(),
            name: "Our room".to_owned(),
            member_user_ids: members.iter().map(ToString::to_string).collect(),
            ..CreateRoomRequest::default()
        };
        rooms.create_room(request).await.expect("created");
    }

    /// Lets a room that Ann owns have so many members.
    pub(crate) async fn fill(&self, room_id: &str, members: usize) {
        let backend = caller("acme", Principal::Service);
        let served = public![self.membership.users(), self.membership.memberships()];
        let to = called_by(served, backend, None);
        let mut users = UserServiceClient::new(to.clone());
        let mut rooms = MembershipServiceClient::new(to);
        let names: Vec<String> = (1..members).map(|n| format!("user {n}")).collect();
        for user_ids in names.chunks(100) {
            let user = |id: &String| User { user_id: id.clone(), ..User::default() };
            let known = BatchUpsertUsersRequest { users: user_ids.iter().map(user).collect() };
            users.batch_upsert_users(known).await.expect("users");
            let (room_id, user_ids) = (room_id.to_owned(), user_ids.to_vec());
            let request = AddMembersRequest { room_id, user_ids, ..AddMembersRequest::default() };
            rooms.add_members(request).await.expect("added");
        }
    }

    /// Follows a room from here on.
    pub(crate) async fn follow(&self, user: &str, room_id: &str) -> Streaming<SubscribeResponse> {
        let server = self.message.public();
        let mut streams = StreamServiceClient::new(called_by(server, acme(user), None));
        let rooms = vec![RoomCursor { room_id: room_id.to_owned(), cursor: None }];
        let request = SubscribeRequest { rooms, ..SubscribeRequest::default() };
        let mut frames = streams.subscribe(request).await.expect("a stream").into_inner();
        while !matches!(next(&mut frames).await.expect("a frame").frame, Some(Frame::CaughtUp(_))) {
        }
        frames
    }

    /// Opens a session that lasts.
    pub(crate) async fn open(&self, user: &str, resource: &str) {
        self.user(user).sessions.open_session(opening(resource)).await.expect("opened");
    }

    /// What a user is, as everybody is told.
    pub(crate) async fn presence(&self, user: &str) -> pb::Presence {
        presence_of(&mut self.backend(), user).await
    }

    /// Waits until a user is like this.
    pub(crate) async fn until(&self, user: &str, availability: pb::Availability) {
        eventually(|| async { self.presence(user).await.availability() == availability }).await;
    }

    /// Waits until it is known who is offline.
    pub(crate) async fn settle(&self) {
        self.until("nobody", pb::Availability::Offline).await;
    }
}

pub(crate) fn opening(resource: &str) -> pb::OpenSessionRequest {
    pb::OpenSessionRequest { resource: resource.to_owned(), ..pb::OpenSessionRequest::default() }
}

pub(crate) fn keeping(resource: &str, lease: Duration) -> pb::KeepSessionRequest {
    pb::KeepSessionRequest {
        resource: resource.to_owned(),
        lease: prost_types::Duration::try_from(lease).ok(),
        ..pb::KeepSessionRequest::default()
    }
}

pub(crate) fn watching(users: &[&str]) -> pb::WatchPresenceRequest {
    pb::WatchPresenceRequest { user_ids: users.iter().map(ToString::to_string).collect() }
}

pub(crate) fn getting(users: &[&str]) -> pb::BatchGetPresenceRequest {
    pb::BatchGetPresenceRequest { user_ids: users.iter().map(ToString::to_string).collect() }
}

pub(crate) async fn presence_of(client: &mut Client, user: &str) -> pb::Presence {
    let reply = client.presence.batch_get_presence(getting(&[user])).await.expect("an answer");
    reply.into_inner().presences.pop().expect("one per user")
}

/// Clients of a caller, on a node.
pub(crate) fn on(node: &Service, caller: Caller) -> Client {
    let to = called_by(node.public(), caller, None);
    Client {
        presence: PresenceServiceClient::new(to.clone()),
        sessions: SessionServiceClient::new(to.clone()),
        typing: TypingServiceClient::new(to),
    }
}

/// The next frame of a stream.
pub(crate) async fn next<T>(frames: &mut Streaming<T>) -> Result<T, Status> {
    in_time(frames.message()).await.map(|frame| frame.expect("the stream goes on"))
}

/// The next frame of a watcher that is no heartbeat: users with what they are.
pub(crate) async fn told(
    frames: &mut Streaming<pb::WatchPresenceResponse>,
) -> Vec<(String, pb::Availability)> {
    let mut frame = next(frames).await.expect("a frame");
    while frame.presences.is_empty() {
        frame = next(frames).await.expect("a frame");
    }
    let told = |presence: pb::Presence| (presence.user_id.clone(), presence.availability());
    frame.presences.into_iter().map(told).collect()
}

/// Checks that a stream ended for a reason, with its code.
pub(crate) fn assert_reason(status: &Status, reason: Reason) {
    assert_eq!(Reason::of(status), Some(reason), "{status:?}");
    assert_eq!(status.code(), reason.code(), "{status:?}");
}
