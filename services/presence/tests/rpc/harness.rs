//! The whole suite within this process, and clients of presence.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlance_bus::InProcessBus;
use parlance_bus::testing::RedisCluster;
use parlance_db::{Db, Location, Migrations, testing, write_db};
use parlance_presence::domain::Leases;
use parlance_presence::state::{Doubt, MemorySessions, RedisSessions, Sessions};
use parlance_presence::{Ground, MIGRATIONS, Options, Service};
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
use parlance_rpc::{
    Auth, AuthConfig, Caller, Internal, InternalKey, Principal, Reason, Transport, in_process,
};
use parlance_types::{Clock, ManualClock, Micros, TenantId, UserId};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::link::Link;
pub(crate) use crate::requests::{getting, keeping, opening, watching};

/// Clients of one caller.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) presence: PresenceServiceClient<Transport>,
    pub(crate) sessions: SessionServiceClient<Transport>,
    pub(crate) typing: TypingServiceClient<Transport>,
}

/// How long a test waits for a state before it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The time at which every test begins, in seconds.
pub(crate) const START: i64 = 1_800_000_000;

/// How long who has no session is unknown, from the start on.
pub(crate) const DOUBT: Duration = Duration::from_millis(700);

/// How often nodes look at those who are watched.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// How long typing lasts.
pub(crate) const TYPING: Duration = Duration::from_millis(600);

pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) message: parlance_message::Service,
    pub(crate) room: parlance_room::Service,
    pub(crate) membership: parlance_membership::Service,
    /// Of the first node.
    pub(crate) draining: CancellationToken,
    home: Home,
    /// Where the sessions of further nodes are.
    further: Arc<Mutex<Home>>,
    ground: Box<dyn Fn() -> Ground + Send + Sync>,
    running: Vec<(CancellationToken, JoinHandle<()>)>,
    _folder: TempDir,
}

/// Where sessions are.
#[derive(Clone)]
pub(crate) enum Home {
    Memory(Arc<MemorySessions>),
    /// At a URL, under keys of one test.
    Redis {
        url: String,
        space: String,
    },
    /// In a cluster of one test's own.
    Cluster(Vec<String>),
}

impl Home {
    fn sessions(&self) -> Arc<dyn Sessions> {
        match self {
            Self::Memory(sessions) => Arc::clone(sessions) as _,
            Self::Redis { url, space } => {
                Arc::new(RedisSessions::open(url, space, doubt()).expect("a URL"))
            }
            Self::Cluster(nodes) => {
                Arc::new(RedisSessions::on_cluster(nodes, "test", doubt()).expect("URLs"))
            }
        }
    }

    async fn lose(&self) {
        match self {
            Self::Memory(sessions) => sessions.lose(),
            Self::Cluster(_) => unreachable!("it is lost node by node"),
            Self::Redis { url, space } => {
                let client = redis::Client::open(url.as_str()).expect("a URL");
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
        stale: Duration::from_millis(400),
        typing: TYPING,
        leases: Leases { shortest: second / 10, default: 30 * second, longest: 60 * second },
        streams_per_caller: 3,
        spread: Duration::from_millis(100),
        ..Options::default()
    }
}

/// Runs `test` on SQLite and memory.
pub(crate) async fn embedded<F: Future<Output = World>>(test: impl FnOnce(World) -> F) {
    let home = Home::Memory(Arc::new(MemorySessions::new(doubt())));
    testing::on_sqlite(MIGRATIONS, async |db| {
        test(World::new(db, home).await).await.stop().await;
    })
    .await;
}

/// Runs `test` on Postgres and Redis.
pub(crate) async fn distributed<F: Future<Output = World>>(test: impl FnOnce(World) -> F) {
    let url = std::env::var("TEST_REDIS_URL").expect("set TEST_REDIS_URL (see `make test`)");
    let home = Home::Redis { url, space: uuid::Uuid::new_v4().simple().to_string() };
    testing::on_postgres(MIGRATIONS, async |db| {
        test(World::new(db, home.clone()).await).await.stop().await;
        home.lose().await;
    })
    .await;
}

/// Runs `test` on SQLite and a Redis Cluster, of which it may harm the nodes.
pub(crate) async fn on_a_cluster<F: Future<Output = World>>(
    test: impl FnOnce(World, RedisCluster) -> F,
) {
    let cluster = RedisCluster::start().await;
    let home = Home::Cluster(cluster.url().servers().to_vec());
    testing::on_sqlite(MIGRATIONS, async |db| {
        test(World::new(db, home).await, cluster).await.stop().await;
    })
    .await;
}

impl World {
    async fn new(db: Db, home: Home) -> Self {
        let clock = Arc::new(ManualClock::at(START * 1_000_000));
        let shared: Arc<dyn Clock> = clock.clone();
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = async |name: &str, migrations: Migrations| {
            let location = Location::Sqlite(folder.path().join(name));
            Db::open(&location, migrations).await.expect("open SQLite")
        };
        let key = InternalKey::random();
        let auth = AuthConfig::new(Vec::new(), key.clone());
        let auth = Auth::load(auth, Arc::clone(&shared)).await.expect("keys");
        let verify = move |mut request: Request<()>| {
            let caller = auth.verify(&request.metadata().clone().into_headers())?;
            request.extensions_mut().insert(caller);
            Ok::<_, Status>(request)
        };
        let internal = Internal::new(key, Arc::clone(&shared));

        let logs = sqlite("message", parlance_message::MIGRATIONS).await;
        let bus = Arc::new(InProcessBus::default());
        let config = parlance_message::Config::default();
        let message = parlance_message::Service::open(logs, bus, Arc::clone(&shared), config);
        let message = message.await.expect("open the logs");
        let facts = InterceptedService::new(message.fact_server(), verify.clone());
        let notices = InterceptedService::new(message.notice_relay_server(), verify.clone());
        let to_message = in_process(Routes::new(facts).add_service(notices));

        let users = sqlite("membership", parlance_membership::MIGRATIONS).await;
        let membership = parlance_membership::Service::open(
            users,
            Arc::clone(&shared),
            internal.clone(),
            to_message.clone(),
        );
        let server = InterceptedService::new(membership.rosters(), verify);
        let to_membership = in_process(Routes::new(server));

        let rooms = sqlite("room", parlance_room::MIGRATIONS).await;
        let room = parlance_room::Service::open(
            rooms,
            Arc::clone(&shared),
            internal.clone(),
            to_membership.clone(),
            to_message.clone(),
        );
        let further = Arc::new(Mutex::new(home.clone()));
        let at = Arc::clone(&further);
        let ground = Box::new(move || Ground {
            db: db.clone(),
            sessions: at.lock().expect("no test panics with it").sessions(),
            clock: Arc::clone(&shared),
            internal: internal.clone(),
            membership: to_membership.clone(),
            message: to_message.clone(),
        });
        let service = Service::open(ground(), options());
        let mut world = Self {
            service: service.clone(),
            clock,
            message,
            room,
            membership,
            draining: CancellationToken::new(),
            home,
            further,
            ground,
            running: Vec::new(),
            _folder: folder,
        };
        world.run(service);
        world
    }

    fn run(&mut self, service: Service) {
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        self.running.push((shutdown, tokio::spawn(async move { service.run(token).await })));
    }

    /// Another node of the presence service that looks at nobody.
    pub(crate) fn fresh(&self) -> Service {
        Service::open((self.ground)(), options())
    }

    /// Another node of the presence service.
    pub(crate) fn node(&mut self) -> Service {
        let service = self.fresh();
        self.run(service.clone());
        service
    }

    /// A node that is laid out differently.
    pub(crate) fn node_with(&mut self, options: Options) -> Service {
        let service = Service::open((self.ground)(), options);
        self.run(service.clone());
        service
    }

    /// A client of a user of the tenant acme, on a node.
    pub(crate) fn user_on(&self, node: &Service, user: &str) -> Client {
        self.on(node, caller("acme", Principal::User(UserId::new(user))))
    }

    /// Takes away the table of when users were last seen, as if the database failed.
    pub(crate) async fn hide_last_seen(&self) {
        self.change("ALTER TABLE last_seen RENAME TO hidden").await;
    }

    pub(crate) async fn show_last_seen(&self) {
        self.change("ALTER TABLE hidden RENAME TO last_seen").await;
    }

    async fn change(&self, statement: &'static str) {
        write_db!(&(self.ground)().db, |pool| {
            sqlx::query(statement).execute(pool).await.map(drop).expect("changed");
        });
    }

    /// Stops what runs.
    async fn stop(self) {
        for (shutdown, running) in self.running {
            shutdown.cancel();
            timeout(PATIENCE, running).await.expect("it ends in time").expect("it ends well");
        }
        self.message.close().await;
    }

    /// Lets nodes to come reach Redis by a way that can be cut.
    pub(crate) async fn cut_off(&self) -> Link {
        let Home::Redis { url, space } = &self.home else { panic!("there is no way to memory") };
        let link = Link::to(url.trim_start_matches("redis://").to_owned()).await;
        let (url, space) = (format!("redis://{}", link.address), space.clone());
        *self.further.lock().expect("no test panics with it") = Home::Redis { url, space };
        link
    }

    /// Lets the state be lost.
    pub(crate) async fn lose(&self) {
        self.home.lose().await;
    }

    pub(crate) fn on(&self, node: &Service, caller: Caller) -> Client {
        let presence = called_by(node.server(self.draining.clone()), caller.clone());
        let sessions = called_by(node.sessions(self.draining.clone()), caller.clone());
        let typing = called_by(node.typing(), caller);
        Client {
            presence: PresenceServiceClient::new(in_process(Routes::new(presence))),
            sessions: SessionServiceClient::new(in_process(Routes::new(sessions))),
            typing: TypingServiceClient::new(in_process(Routes::new(typing))),
        }
    }

    pub(crate) fn client(&self, tenant: &str, principal: Principal) -> Client {
        self.on(&self.service, caller(tenant, principal))
    }

    /// A client of a user of the tenant acme.
    pub(crate) fn user(&self, user: &str) -> Client {
        self.client("acme", Principal::User(UserId::new(user)))
    }

    /// A client of a service of the tenant acme that acts for nobody.
    pub(crate) fn backend(&self) -> Client {
        self.client("acme", Principal::Service)
    }

    /// Makes a room that Ann owns.
    pub(crate) async fn room(&self, room_id: &str, kind: RoomKind, members: &[&str]) {
        let users = called_by(self.membership.users(), caller("acme", Principal::Service));
        let mut users = UserServiceClient::new(in_process(Routes::new(users)));
        let user = |id: &&str| User { user_id: (*id).to_owned(), ..User::default() };
        let known = BatchUpsertUsersRequest { users: members.iter().map(user).collect() };
        if !members.is_empty() {
            users.batch_upsert_users(known).await.expect("users");
        }
        let ann = caller("acme", Principal::User(UserId::new("ann")));
        let rooms = called_by(self.room.server(), ann);
        let mut rooms = RoomServiceClient::new(in_process(Routes::new(rooms)));
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
        let users = called_by(self.membership.users(), backend.clone());
        let mut users = UserServiceClient::new(in_process(Routes::new(users)));
        let rooms = called_by(self.membership.memberships(), backend);
        let mut rooms = MembershipServiceClient::new(in_process(Routes::new(rooms)));
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
        let server = self.message.stream_server(CancellationToken::new());
        let server = called_by(server, caller("acme", Principal::User(UserId::new(user))));
        let mut streams = StreamServiceClient::new(in_process(Routes::new(server)));
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
    pub(crate) async fn until(&self, user: &str, availability: pb::Availability) -> pb::Presence {
        let wait = async {
            loop {
                let presence = self.presence(user).await;
                if presence.availability() == availability {
                    return presence;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("it comes to be in time")
    }

    /// Waits until it is known who is offline.
    pub(crate) async fn settle(&self) {
        self.until("nobody", pb::Availability::Offline).await;
    }
}

pub(crate) fn caller(tenant: &str, principal: Principal) -> Caller {
    Caller {
        tenant_id: TenantId::new(tenant),
        subject: "test".to_owned(),
        principal,
        expires: Micros::MAX,
    }
}

/// Lets every call of a server be one of `caller`.
pub(crate) fn called_by<S>(
    server: S,
    caller: Caller,
) -> InterceptedService<
    S,
    impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static,
> {
    InterceptedService::new(server, move |mut call: Request<()>| {
        call.extensions_mut().insert(caller.clone());
        Ok(call)
    })
}

pub(crate) async fn presence_of(client: &mut Client, user: &str) -> pb::Presence {
    let reply = client.presence.batch_get_presence(getting(&[user])).await.expect("an answer");
    reply.into_inner().presences.pop().expect("one per user")
}

/// The next frame of a stream.
pub(crate) async fn next<T>(frames: &mut Streaming<T>) -> Result<T, Status> {
    let next = timeout(PATIENCE, frames.message()).await.expect("a frame in time");
    next.map(|frame| frame.expect("the stream goes on"))
}

/// The next frame of a watcher: users with what they are.
pub(crate) async fn told(
    frames: &mut Streaming<pb::WatchPresenceResponse>,
) -> Vec<(String, pb::Availability)> {
    let frame = next(frames).await.expect("a frame");
    let told = |presence: pb::Presence| (presence.user_id.clone(), presence.availability());
    frame.presences.into_iter().map(told).collect()
}

/// Checks that a call was refused for `reason`, with its code.
pub(crate) fn assert_refused<T: Debug>(reply: Result<Response<T>, Status>, reason: Reason) {
    assert_reason(&reply.expect_err("refused"), reason);
}

pub(crate) fn assert_reason(status: &Status, reason: Reason) {
    assert_eq!(Reason::of(status), Some(reason), "{status:?}");
    assert_eq!(status.code(), reason.code(), "{status:?}");
}

/// Checks that a call was refused for what a field says.
pub(crate) fn assert_violation<T: Debug>(reply: Result<Response<T>, Status>, field: &str) {
    let status = reply.expect_err("refused");
    assert_reason(&status, Reason::InvalidField);
    let bad = status.get_details_bad_request().expect("a BadRequest");
    assert_eq!(bad.field_violations[0].field, field);
}
