//! Replicas of each service, on free ports, with a database and a Redis of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parlance_proto::membership::v1::OutboxCounters;
use parlance_proto::message::v1::HealingCounters;
use parlance_rpc::{Internal, InternalKey, Minter, Role, Secret};
use parlance_types::{Clock as _, SystemClock, TenantId, UserId};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::time::Instant;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::database::Database;
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::replica::{self, Replica};
use crate::{Client, TENANT};

/// The services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Message,
    Membership,
    Room,
    Presence,
}

impl Kind {
    /// In the order in which they depend on each other.
    pub const ALL: [Self; 4] = [Self::Message, Self::Membership, Self::Room, Self::Presence];

    pub const fn replica(self, number: usize) -> Name {
        Name(self, number)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Membership => "membership",
            Self::Room => "room",
            Self::Presence => "presence",
        }
    }
}

/// A replica of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub Kind, pub usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.name(), self.1)
    }
}

/// How long a replica of the tests may take to drain.
const DRAIN: Duration = Duration::from_secs(5);

/// What tests change of the settings: less of everything, and soon.
const HASTY: [(&str, &str); 4] =
    [("--connections", "6"), ("--writers", "2"), ("--head-check", "200ms"), ("--drain", "5s")];

/// One cluster at a time: each has the machine for itself.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The folder of the programs.
static PROGRAMS: OnceCell<PathBuf> = OnceCell::const_new();

/// The folder of the programs, which are built the first time.
pub(crate) async fn programs() -> &'static Path {
    PROGRAMS.get_or_init(built).await
}

/// A running suite.
#[derive(Debug)]
pub struct Cluster {
    replicas: BTreeMap<Name, Replica>,
    pub database: Database,
    pub redis: Redis,
    folder: Option<TempDir>,
    minter: Minter,
    internal: Internal,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts `count` replicas of each service, all at once, and waits until all
    /// are ready.
    pub async fn start(count: usize) -> Self {
        Self::on(count, Database::create().await, Redis::start().await, &HASTY, None).await
    }

    /// As `start`, with the settings that an installation has by default; only the
    /// rate of a caller is without limit.
    pub async fn with_defaults(count: usize) -> Self {
        Self::on(count, Database::create().await, Redis::start().await, &[], None).await
    }

    /// As `start`, on a Postgres of its own, which may be crashed.
    pub async fn beside(count: usize, postgres: &Postgres) -> Self {
        Self::on(count, Database::on(postgres.url()).await, Redis::start().await, &HASTY, None)
            .await
    }

    /// As `start`, on a Redis Cluster.
    pub async fn on_redis_cluster(count: usize) -> Self {
        Self::on(count, Database::create().await, Redis::start_cluster().await, &HASTY, None).await
    }

    /// As `start`, of the older programs in a folder.
    pub async fn of_older(count: usize, older: &Path) -> Self {
        let (database, redis) = (Database::create().await, Redis::start().await);
        Self::on(count, database, redis, &HASTY, Some(older)).await
    }

    async fn on(
        count: usize,
        database: Database,
        redis: Redis,
        settings: &[(&str, &str)],
        older: Option<&Path>,
    ) -> Self {
        let alone = ALONE.lock().await;
        let programs = match older {
            Some(older) => older,
            None => programs().await,
        };
        let folder = tempfile::Builder::new().prefix("parlance-cluster-").tempdir();
        let folder = folder.expect("a folder");
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, Secret::random().as_bytes()).expect("a key");
            path
        };
        let (callers, internal) = (write("callers.key"), write("internal.key"));
        let secret = |path: &Path| Secret::read(path).expect("a secret");
        let ports: BTreeMap<Name, u16> = Kind::ALL
            .into_iter()
            .flat_map(|kind| (0..count).map(move |number| (kind.replica(number), free_port())))
            .collect();
        let addresses = |kind: Kind| {
            let ports = ports.iter().filter(|(name, _)| name.0 == kind);
            ports.map(|(_, port)| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
        };
        let shared = [
            ("--store", database.url()),
            ("--bus", redis.url()),
            ("--auth-key", format!("hs256:{}", callers.display())),
            ("--internal-key-file", internal.display().to_string()),
            ("--message", addresses(Kind::Message)),
            ("--membership", addresses(Kind::Membership)),
            ("--rate", "0".to_owned()),
            ("--tenant-rate", "0".to_owned()),
            ("--service-rate", "0".to_owned()),
        ];
        let settings = settings.iter().map(|(flag, value)| (*flag, (*value).to_owned()));
        let shared: Vec<_> = shared.into_iter().chain(settings).collect();
        let replica = |(name, port): (&Name, &u16)| {
            let mut arguments = vec!["--listen".to_owned(), format!("127.0.0.1:{port}")];
            arguments
                .extend(shared.iter().flat_map(|(flag, value)| [(*flag).into(), value.clone()]));
            let program = program(programs, *name);
            let log = folder.path().join(format!("{name}.log"));
            (*name, Replica::new(program, *port, arguments, log))
        };
        let replicas = ports.iter().map(replica).collect();
        let (issuer, audience) = ("parlance".to_owned(), "parlance".to_owned());
        let minter = Minter { secret: secret(&callers), issuer, audience };
        let key = InternalKey::from(secret(&internal));
        let internal = Internal::new(key, Arc::new(SystemClock));
        let folder = Some(folder);
        let mut cluster =
            Self { replicas, database, redis, folder, minter, internal, _alone: alone };
        cluster.start_all().await;
        cluster
    }

    /// Every replica, by name.
    pub fn names(&self) -> Vec<Name> {
        self.replicas.keys().copied().collect()
    }

    fn replica(&mut self, name: Name) -> &mut Replica {
        self.replicas.get_mut(&name).expect("a replica")
    }

    /// Starts a replica again, on the address that it had, and waits until it is ready.
    pub async fn restart(&mut self, name: Name) {
        self.replica(name).start();
        self.replica(name).ready().await;
    }

    /// kill -9.
    pub async fn kill(&mut self, name: Name) {
        self.replica(name).kill().await;
    }

    /// Asks a replica to end; it must end well, and within the bound that it was given.
    pub async fn stop(&mut self, name: Name) {
        let began = Instant::now();
        let status = self.replica(name).stop().await;
        assert!(status.success(), "{name} ended with {status}");
        // Closing what is behind the connections takes a moment more.
        let within = DRAIN + Duration::from_secs(5);
        assert!(began.elapsed() < within, "{name} took {:?}", began.elapsed());
    }

    /// Asks every replica to end, all at once.
    pub async fn stop_all(&mut self) {
        for status in join_all(self.replicas.values_mut().map(Replica::stop)).await {
            assert!(status.success(), "a replica ended with {status}");
        }
    }

    /// Starts every replica, all at once, and waits until they are ready.
    pub async fn start_all(&mut self) {
        self.replicas.values_mut().for_each(Replica::start);
        join_all(self.replicas.values_mut().map(Replica::ready)).await;
    }

    /// Tells that a backup was put back, as an operator does while nothing runs.
    pub async fn tell_restored(&self) {
        let told = tokio::process::Command::new(programs().await.join("parlance"))
            .args(["restored", "--store", &self.database.url()])
            .stdout(Stdio::null())
            .status();
        assert!(told.await.expect("parlance").success());
    }

    /// Stops a replica in the middle of whatever it does.
    pub async fn pause(&self, name: Name) {
        self.replicas[&name].signal("STOP").await;
    }

    pub async fn resume(&self, name: Name) {
        self.replicas[&name].signal("CONT").await;
    }

    /// Whether a replica says that it is ready.
    pub async fn serving(&self, name: Name) -> bool {
        replica::serves(self.replicas[&name].port).await
    }

    /// Stops and starts every replica, one after the other.
    pub async fn roll(&mut self) {
        for name in self.names() {
            self.stop(name).await;
            self.restart(name).await;
        }
    }

    /// Ends a replica well, and starts it again as the program that stands in the tree.
    pub async fn upgrade(&mut self, name: Name) {
        self.stop(name).await;
        self.replica(name).program = program(programs().await, name);
        self.restart(name).await;
    }

    /// A client that is a user, with a connection of its own to each replica.
    pub fn user(&self, user: &str) -> Client {
        self.client(Role::User, user)
    }

    /// A client that is a backend and acts for the tenant.
    pub fn service(&self) -> Client {
        self.client(Role::Service, "tests")
    }

    fn client(&self, role: Role, subject: &str) -> Client {
        let token = token(&self.minter, role, subject);
        let channels = Kind::ALL.map(|kind| {
            let replicas = self.replicas.iter().filter(|(name, _)| name.0 == kind);
            replicas.map(|(_, replica)| channel(replica.port)).collect()
        });
        Client::new(channels, &token)
    }

    /// A token of a user.
    pub fn token(&self, user: &str) -> String {
        token(&self.minter, Role::User, user)
    }

    /// Where a replica listens.
    pub fn address(&self, name: Name) -> String {
        format!("http://127.0.0.1:{}", self.replicas[&name].port)
    }

    /// The process of a replica that runs.
    pub fn process_id(&self, name: Name) -> u32 {
        self.replicas[&name].process_id().expect("it runs")
    }

    /// Whether a replica of message hears of others by the bus.
    pub async fn bus_is_up(&self, name: Name) -> bool {
        self.client(Role::Operator, "tests").counters(name.1).await.bus_up
    }

    /// Calls a replica as another service of the suite does.
    pub fn as_suite<T>(&self, name: Name, message: T) -> (Channel, Request<T>) {
        let tenant = TenantId::new(TENANT);
        let request = self.internal.request(&tenant, None, Duration::from_secs(5), message);
        (channel(self.replicas[&name].port), request)
    }

    /// What the replicas of message that run had to heal since they started, added up.
    pub async fn healing(&self) -> HealingCounters {
        let operator = self.client(Role::Operator, "tests");
        let mut sum = HealingCounters::default();
        for name in self.names().into_iter().filter(|name| name.0 == Kind::Message) {
            if self.replicas[&name].runs() {
                add(&mut sum, &operator.healing(name.1).await);
            }
        }
        sum
    }

    /// What the replicas of membership that run had to heal since they started, and the
    /// backlog.
    pub async fn outbox(&self) -> OutboxCounters {
        let operator = self.client(Role::Operator, "tests");
        let mut sum = OutboxCounters::default();
        for name in self.names().into_iter().filter(|name| name.0 == Kind::Membership) {
            if self.replicas[&name].runs() {
                let of_one = operator.outbox(name.1).await;
                sum.relayed += of_one.relayed;
                sum.failed_drives += of_one.failed_drives;
                sum = OutboxCounters {
                    relayed: sum.relayed,
                    failed_drives: sum.failed_drives,
                    ..of_one
                };
            }
        }
        sum
    }

    /// How much memory of a replica is resident, in bytes.
    pub fn resident(&self, name: Name) -> u64 {
        self.replicas[&name].resident()
    }

    /// How often a text stands in the logs of the replicas of a service.
    pub fn logged(&self, kind: Kind, text: &str) -> usize {
        let replicas = self.replicas.iter().filter(|(name, _)| name.0 == kind);
        let logs = replicas.map(|(_, replica)| std::fs::read_to_string(&replica.log));
        logs.map(|log| log.unwrap_or_default().matches(text).count()).sum()
    }

    /// Ends every replica and drops the database. Without this, as when a test
    /// fails, the logs are kept.
    pub async fn finish(mut self) {
        for replica in self.replicas.values_mut() {
            replica.kill().await;
        }
        self.replicas.clear();
        let nothing = Database::default();
        std::mem::replace(&mut self.database, nothing).drop().await;
        drop(self.folder.take());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            eprintln!("the logs of the cluster are in {}", folder.keep().display());
        }
    }
}

/// The program of a replica, out of a folder.
fn program(folder: &Path, Name(kind, _): Name) -> PathBuf {
    folder.join(format!("parlance-{}", kind.name()))
}

fn add(sum: &mut HealingCounters, more: &HealingCounters) {
    sum.gaps += more.gaps;
    sum.reorder_waits += more.reorder_waits;
    sum.gaps_healed += more.gaps_healed;
    sum.head_checks_healed += more.head_checks_healed;
    sum.users_healed += more.users_healed;
    sum.polls += more.polls;
    sum.catch_up_blocks += more.catch_up_blocks;
    sum.rings_dropped += more.rings_dropped;
    sum.resets += more.resets;
    sum.disturbances += more.disturbances;
    sum.hints_dropped += more.hints_dropped;
    sum.stalled_streams += more.stalled_streams;
    sum.unknown_commits += more.unknown_commits;
}

/// A token that holds for as long as tests may take.
pub(crate) fn token(minter: &Minter, role: Role, subject: &str) -> String {
    let (tenant, subject) = (TenantId::new(TENANT), UserId::new(subject));
    minter.token(&tenant, role, &subject, SystemClock.now(), Duration::from_hours(2))
}

pub(crate) fn channel(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
    endpoint.connect_timeout(Duration::from_secs(1)).tcp_nodelay(true).connect_lazy()
}

/// A port that nobody listens on, below those that connections take for themselves.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 20_000 + rand::random::<u16>() % 10_000;
    NEXT.compare_exchange(0, begin, Ordering::Relaxed, Ordering::Relaxed).ok();
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The folder of the programs, built from what stands in the tree.
async fn built() -> PathBuf {
    if let Some(given) = std::env::var_os("TEST_PARLANCE_PROGRAMS") {
        return given.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/build-programs");
    let mut build = tokio::process::Command::new(script);
    let output = build.arg("--quiet").env("CARGO", env!("CARGO")).stderr(Stdio::inherit()).output();
    let output = output.await.expect("a build");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("a path").trim_end().into()
}
