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
use futures::future::try_join_all;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, ErrorKind, FromRedisValue, RedisError, Script, ScriptInvocation, ServerErrorKind,
};
use tokio::time::{Instant, timeout_at};

use super::{Doubt, MAX_SESSIONS, Opened, Seen, Sessions, StateError};
use crate::domain::{Active, Device, Lease, Session, Status, User};

/// Over how many shards users are spread.
const SHARDS: u64 = 16;

/// How long one operation may take, its repeats included.
const DEADLINE: Duration = Duration::from_secs(1);

/// The pause before an operation is repeated whose connection was lost.
const PAUSE: Duration = Duration::from_millis(20);

/// A session as the scripts write it: lease in ms, how it is used, status.
type Row = (u64, u8, String);

/// Sessions in Redis 7 or later. It must not evict keys (`noeviction`).
#[derive(Debug)]
pub struct RedisSessions {
    connection: ConnectionManager,
    space: String,
    doubt: Doubt,
    open: Script,
    renew: Script,
    close: Script,
    read: Script,
}

/// A part of the users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shard(u64);

impl Shard {
    fn of((tenant_id, user_id): &User) -> Self {
        // FNV-1a: the same on every node, whatever it was built with.
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.write(tenant_id.as_str().as_bytes());
        hash.write(&[0]);
        hash.write(user_id.as_str().as_bytes());
        Self(hash.finish() % SHARDS)
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

fn script(body: &str) -> Script {
    Script::new(&format!("{}{body}", include_str!("redis/prelude.lua")))
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
    /// Sessions in the Redis at `url`, under keys that begin with `space`. Connects at the first use, and again whenever
    /// the connection is lost.
    pub fn open(url: &str, space: &str, doubt: Doubt) -> Result<Self, StateError> {
        let config = ConnectionManagerConfig::new()
            .set_min_delay(PAUSE)
            .set_max_delay(Duration::from_millis(250))
            .set_number_of_retries(1)
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE / 2));
        let client = Client::open(url)?;
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, config)?,
            space: space.to_owned(),
            doubt,
            open: script(include_str!("redis/open.lua")),
            renew: script(include_str!("redis/renew.lua")),
            close: script(include_str!("redis/close.lua")),
            read: script(include_str!("redis/read.lua")),
        })
    }

    fn call<'a>(
        &self,
        script: &'a Script,
        shard: Shard,
        keys: impl IntoIterator<Item = String>,
    ) -> ScriptInvocation<'a> {
        let mut call = script.key(shard.marker(&self.space));
        for key in keys {
            call.key(key);
        }
        call.arg(millis(self.doubt.gap)).arg(millis(self.doubt.lasts));
        call
    }

    /// Runs a script; again if the connection was lost, which no script minds.
    async fn run<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StateError> {
        let due = Instant::now() + DEADLINE;
        let attempts = async {
            loop {
                match call.invoke_async(&mut self.connection.clone()).await {
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

/// Whether the connection failed, or the server came up anew, and not the operation.
fn is_lost(error: &RedisError) -> bool {
    let forgotten = ErrorKind::Server(ServerErrorKind::NoScript);
    error.kind() == forgotten
        || error.is_io_error()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
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

    async fn of_users(&self, users: &[User]) -> Result<Vec<Seen>, StateError> {
        let mut shards: BTreeMap<Shard, Vec<usize>> = BTreeMap::new();
        for (at, user) in users.iter().enumerate() {
            shards.entry(Shard::of(user)).or_default().push(at);
        }
        let reads = shards.into_iter().map(|(shard, places)| async move {
            let of_shard: Vec<&User> = places.iter().map(|at| &users[*at]).collect();
            let seen = self.read(shard, &of_shard).await?;
            Ok::<_, StateError>(places.into_iter().zip(seen))
        });
        // Over one connection, so that they go in one go.
        let mut found: Vec<(usize, Seen)> =
            try_join_all(reads).await?.into_iter().flatten().collect();
        found.sort_by_key(|(at, _)| *at);
        Ok(found.into_iter().map(|(_, seen)| seen).collect())
    }

    async fn pulse(&self) -> Result<(), StateError> {
        try_join_all((0..SHARDS).map(|shard| self.read(Shard(shard), &[]))).await?;
        Ok(())
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
