//! Sessions in Redis: a hash per user, a field per device, read and written by
//! scripts on the clock of the server.
//!
//! Users are spread over shards by a hash tag, so that a script touches one slot of
//! a cluster, and each shard has the marker that tells that it lost something: the
//! nodes of a cluster are lost one by one.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, ToRedisArgs,
};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::{Doubt, MAX_SESSIONS, Opened, Seen, Sessions, StateError};
use crate::session::{Active, Device, Lease, Session, Status, User};

/// Over how many shards users are spread.
const SHARDS: usize = 16;

/// How long one operation may take, its repeats included.
const DEADLINE: Duration = Duration::from_secs(1);

/// The pause before an operation is repeated whose connection was lost.
const PAUSE: Duration = Duration::from_millis(20);

/// A session as the scripts write it: lease in ms, how it is used, status.
type Row = (u64, u8, String);

/// Sessions in Redis 7 or later. It must not evict keys (`noeviction`).
#[derive(Debug)]
pub struct RedisSessions {
    link: Link,
    space: String,
    doubt: Doubt,
    open: Code,
    renew: Code,
    close: Code,
    read: Code,
}

/// The way to Redis. Both connect at the first use, and again whenever they must.
#[derive(Debug)]
enum Link {
    Single(ConnectionManager),
    Cluster(Box<Cluster>),
}

/// Connections per shard: while a node is away its shards let their connection look for
/// it all the time, and whoever shared it would wait.
struct Cluster {
    client: ClusterClient,
    shards: [OnceCell<ClusterConnection>; SHARDS],
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

impl Link {
    async fn query<T: FromRedisValue>(&self, shard: Shard, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::Single(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(cluster) => {
                let Cluster { client, shards } = &**cluster;
                let connect = || client.get_async_connection();
                let connection = shards[shard.0].get_or_try_init(connect).await?;
                let mut connection = connection.clone();
                command.query_async(&mut connection).await
            }
        }
    }
}

/// A script: its text, and the hash that names it where it is known.
#[derive(Debug)]
struct Code {
    text: String,
    hash: String,
}

impl Code {
    fn new(body: &str) -> Self {
        let text = format!("{}{body}", include_str!("redis/prelude.lua"));
        let hash = Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}

/// A script with its keys and arguments. Sent by hash; a server that does not know it
/// gets the text, which goes where the keys are. Loading it would need every node of a cluster.
struct Call<'a> {
    code: &'a Code,
    shard: Shard,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call<'_> {
    fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

/// A part of the users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shard(usize);

impl Shard {
    fn of((tenant_id, user_id): &User) -> Self {
        // FNV-1a: the same on every node, whatever it was built with.
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.write(tenant_id.as_str().as_bytes());
        hash.write(&[0]);
        hash.write(user_id.as_str().as_bytes());
        let shard = hash.finish() % u64::try_from(SHARDS).expect("a few");
        Self(usize::try_from(shard).expect("one of a few"))
    }

    fn marker(self, space: &str) -> String {
        format!("{space}:presence:{{{}}}", self.0)
    }

    /// The length keeps tenant and user apart, whatever they hold.
    fn key(self, space: &str, (tenant_id, user_id): &User) -> String {
        let (tenant, user) = (tenant_id.as_str(), user_id.as_str());
        format!("{space}:presence:{{{}}}:{}:{tenant}:{user}", self.0, tenant.len())
    }
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn session((lease, active, status): Row) -> Result<Session, StateError> {
    let active = match active {
        1 => Active::Online,
        2 => Active::Away,
        _ => return Err(StateError::Impossible("use")),
    };
    let lease = Lease::stored(Duration::from_millis(lease));
    Ok(Session { active, status: Status::stored(status), lease })
}

impl RedisSessions {
    /// Sessions in the Redis at `url`, under keys that begin with `space`. Connects at
    /// the first use, and again whenever the connection is lost.
    pub fn open(url: &str, space: &str, doubt: Doubt) -> Result<Self, StateError> {
        let config = ConnectionManagerConfig::new()
            .set_min_delay(PAUSE)
            .set_max_delay(Duration::from_millis(250))
            .set_number_of_retries(1)
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE / 2));
        let connection = ConnectionManager::new_lazy_with_config(Client::open(url)?, config)?;
        Ok(Self::over(Link::Single(connection), space, doubt))
    }

    /// The same in the Redis Cluster of which these are nodes.
    pub fn on_cluster(nodes: &[String], space: &str, doubt: Doubt) -> Result<Self, StateError> {
        let client = ClusterClientBuilder::new(nodes.iter().map(String::as_str))
            .retries(1)
            // It connects to every node, silent ones too, before it is of use.
            .connection_timeout(DEADLINE / 4)
            .response_timeout(DEADLINE / 2)
            .build()?;
        let shards = std::array::from_fn(|_| OnceCell::new());
        let cluster = Cluster { client, shards };
        Ok(Self::over(Link::Cluster(Box::new(cluster)), space, doubt))
    }

    fn over(link: Link, space: &str, doubt: Doubt) -> Self {
        Self {
            link,
            space: space.to_owned(),
            doubt,
            open: Code::new(include_str!("redis/open.lua")),
            renew: Code::new(include_str!("redis/renew.lua")),
            close: Code::new(include_str!("redis/close.lua")),
            read: Code::new(include_str!("redis/read.lua")),
        }
    }

    fn call<'a>(
        &self,
        code: &'a Code,
        shard: Shard,
        keys: impl IntoIterator<Item = String>,
    ) -> Call<'a> {
        let keys = std::iter::once(shard.marker(&self.space)).chain(keys).collect();
        let mut call = Call { code, shard, keys, arguments: Vec::new() };
        call.arg(millis(self.doubt.gap)).arg(millis(self.doubt.lasts));
        call
    }

    /// Runs a script; again if the connection was lost, which no script minds.
    async fn run<T: FromRedisValue>(&self, call: &Call<'_>) -> Result<T, StateError> {
        let due = Instant::now() + DEADLINE;
        let attempts = async {
            loop {
                let by_hash =
                    self.link.query(call.shard, &call.command("EVALSHA", &call.code.hash)).await;
                let answer = match by_hash {
                    Err(error) if error.kind() == UNKNOWN => {
                        self.link.query(call.shard, &call.command("EVAL", &call.code.text)).await
                    }
                    answer => answer,
                };
                match answer {
                    Err(error) if is_lost(&error) => tokio::time::sleep(PAUSE).await,
                    answer => return answer,
                }
            }
        };
        match timeout_at(due, attempts).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(StateError::Timeout),
        }
    }

    async fn read(&self, shard: Shard, users: &[&User]) -> Result<Vec<Seen>, StateError> {
        let keys = users.iter().map(|user| shard.key(&self.space, user));
        let call = self.call(&self.read, shard, keys);
        let (complete, rows): (bool, Vec<Vec<Row>>) = self.run(&call).await?;
        if rows.len() != users.len() {
            return Err(StateError::Impossible("user"));
        }
        let seen = |rows: Vec<Row>| {
            let sessions = rows.into_iter().map(session).collect::<Result<_, _>>()?;
            Ok(Seen { sessions, complete })
        };
        rows.into_iter().map(seen).collect()
    }
}

/// What a server says that does not know a script.
const UNKNOWN: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);

/// Whether the connection failed, or the cluster moved, and not the operation.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
        || error.is_cluster_error()
        || error.kind() == ErrorKind::ClusterConnectionNotFound
}

/// An outage is the pulse's to tell, once a second; this comes with every call.
fn log(shard: Shard, error: &StateError) {
    let cause = error as &dyn std::error::Error;
    if matches!(error, StateError::Impossible(_)) {
        tracing::error!(error = cause, shard = shard.0, "cannot read a part of the state");
    } else {
        tracing::debug!(error = cause, shard = shard.0, "could not read a part of the state");
    }
}

#[async_trait]
impl Sessions for RedisSessions {
    async fn open(&self, device: &Device, session: &Session) -> Result<Opened, StateError> {
        let shard = Shard::of(&device.user);
        let active: u8 = match session.active {
            Active::Online => 1,
            Active::Away => 2,
        };
        let mut call = self.call(&self.open, shard, [shard.key(&self.space, &device.user)]);
        call.arg(device.resource.as_str())
            .arg(millis(session.lease.get()))
            .arg(active)
            .arg(session.status.as_str())
            .arg(MAX_SESSIONS);
        let done: bool = self.run(&call).await?;
        Ok(if done { Opened::Done } else { Opened::TooMany })
    }

    async fn renew(&self, device: &Device) -> Result<Option<Session>, StateError> {
        let shard = Shard::of(&device.user);
        let mut call = self.call(&self.renew, shard, [shard.key(&self.space, &device.user)]);
        call.arg(device.resource.as_str());
        let found: Vec<Row> = self.run(&call).await?;
        found.into_iter().next().map(session).transpose()
    }

    async fn close(&self, device: &Device) -> Result<(), StateError> {
        let shard = Shard::of(&device.user);
        let mut call = self.call(&self.close, shard, [shard.key(&self.space, &device.user)]);
        call.arg(device.resource.as_str());
        let _: bool = self.run(&call).await?;
        Ok(())
    }

    async fn of_users(&self, users: &[User]) -> Result<Vec<Option<Seen>>, StateError> {
        let mut shards: BTreeMap<Shard, Vec<usize>> = BTreeMap::new();
        for (at, user) in users.iter().enumerate() {
            shards.entry(Shard::of(user)).or_default().push(at);
        }
        let reads = shards.into_iter().map(|(shard, places)| async move {
            let of_shard: Vec<&User> = places.iter().map(|at| &users[*at]).collect();
            (self.read(shard, &of_shard).await, shard, places)
        });
        let (mut found, mut failed) = (vec![None; users.len()], None);
        // Over one connection, so that they go in one go.
        for (seen, shard, places) in join_all(reads).await {
            match seen {
                Ok(seen) => {
                    for (at, seen) in places.into_iter().zip(seen) {
                        found[at] = Some(seen);
                    }
                }
                Err(error) => {
                    log(shard, &error);
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if found.iter().all(Option::is_none) => Err(error),
            _ => Ok(found),
        }
    }

    async fn pulse(&self) -> Result<(), StateError> {
        // Every shard that is there hears it, whichever is not.
        let reads = (0..SHARDS).map(|shard| self.read(Shard(shard), &[]));
        join_all(reads).await.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use parlance_types::{TenantId, UserId};

    use super::*;

    #[test]
    fn no_two_users_share_a_key() {
        let user = |tenant, user| (TenantId::new(tenant), UserId::new(user));
        let key = |user: &User| Shard(3).key("a", user);
        assert_ne!(key(&user("a:b", "c")), key(&user("a", "b:c")));
        assert_ne!(key(&user("a", "1:b")), key(&user("a:1", "b")));
        let strange = user("{x}", "{y}");
        assert_eq!(Shard(3).key("a", &strange), "a:presence:{3}:3:{x}:{y}", "the first tag counts");
        assert!(Shard::of(&strange).0 < SHARDS);
    }
}
