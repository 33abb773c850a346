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
use parlance_bus::{RedisLink, RedisUrl, is_lost};
use parlance_types::{Resource, SessionId, TenantId, UserId};
use redis::{Cmd, ErrorKind, FromRedisValue, Script, ServerErrorKind, ToRedisArgs};
use tokio::time::{Instant, timeout_at};

use super::{Doubt, ENDED, MAX_SESSIONS, Named, Opened, Seen, Sessions, StateError};
use crate::session::{Active, Device, Lease, Session, Status, User};

/// Over how many shards users are spread.
const SHARDS: usize = 16;

/// How long one operation may take, its repeats included.
const DEADLINE: Duration = Duration::from_secs(1);

/// The pause before an operation is repeated whose connection or server was lost.
const PAUSE: Duration = Duration::from_millis(20);

/// A session as the scripts write it: lease in ms, how it is used, id, status.
type Row = (u64, u8, String, String);

/// Sessions in Redis 7 or later. It must not evict keys (`noeviction`).
#[derive(Debug)]
pub struct RedisSessions {
    /// With a lane for each shard: while a node of a cluster is away the shards of others
    /// are read as ever.
    link: RedisLink,
    space: String,
    doubt: Doubt,
    open: Code,
    renew: Code,
    close: Code,
    read: Code,
    ended: Code,
    forget: Code,
    count: Code,
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

    fn ends(self, space: &str) -> String {
        format!("{space}:presence:{{{}}}:ends", self.0)
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

fn session((lease, active, id, status): Row) -> Result<(SessionId, Session), StateError> {
    let active = match active {
        1 => Active::Online,
        2 => Active::Away,
        _ => return Err(StateError::Impossible("use")),
    };
    let lease = Lease::stored(Duration::from_millis(lease));
    let session = Session { active, status: Status::stored(status), lease };
    Ok((SessionId::new(id), session))
}

/// A device as the list of ends names it, before the id of a session: lengths keep the parts
/// apart, whatever they hold.
fn named(Device { user: (tenant_id, user_id), resource }: &Device) -> String {
    let (tenant, user, resource) = (tenant_id.as_str(), user_id.as_str(), resource.as_str());
    format!("{}:{}:{}:{tenant}{user}{resource}", tenant.len(), user.len(), resource.len())
}

/// A session as the list of ends names it.
fn entry(Named { device, id }: &Named) -> String {
    format!("{}{}", named(device), id.as_str())
}

fn parse(entry: &str) -> Option<Named> {
    let mut parts = entry.splitn(4, ':');
    let mut length = || parts.next()?.parse().ok();
    let (tenant, user, resource) = (length()?, length()?, length()?);
    let (tenant, rest) = parts.next()?.split_at_checked(tenant)?;
    let (user, rest) = rest.split_at_checked(user)?;
    let (resource, id) = rest.split_at_checked(resource)?;
    let user = (TenantId::new(tenant), UserId::new(user));
    let device = Device { user, resource: Resource::new(resource.to_owned()) };
    Some(Named { device, id: SessionId::new(id.to_owned()) })
}

impl RedisSessions {
    /// Sessions in the Redis, or in the Redis Cluster, at `url`, under keys that begin with
    /// `space`. Connects at the first use, and again whenever it must.
    pub fn open(url: &RedisUrl, space: &str, doubt: Doubt) -> Result<Self, StateError> {
        Ok(Self {
            link: RedisLink::open(url, DEADLINE, SHARDS)?,
            space: space.to_owned(),
            doubt,
            open: Code::new(include_str!("redis/open.lua")),
            renew: Code::new(include_str!("redis/renew.lua")),
            close: Code::new(include_str!("redis/close.lua")),
            read: Code::new(include_str!("redis/read.lua")),
            ended: Code::new(include_str!("redis/ended.lua")),
            forget: Code::new(include_str!("redis/forget.lua")),
            count: Code::new(include_str!("redis/count.lua")),
        })
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

    /// Runs a script; again if the connection or the server was lost, which no script minds.
    async fn run<T: FromRedisValue>(&self, call: &Call<'_>) -> Result<T, StateError> {
        let due = Instant::now() + DEADLINE;
        let attempts = async {
            loop {
                let lane = call.shard.0;
                let by_hash = call.command("EVALSHA", &call.code.hash);
                let answer = match self.link.query(lane, &by_hash).await {
                    Err(error) if error.kind() == UNKNOWN => {
                        self.link.query(lane, &call.command("EVAL", &call.code.text)).await
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

    /// A call about one device.
    fn about<'a>(&self, code: &'a Code, device: &Device) -> Call<'a> {
        let shard = Shard::of(&device.user);
        let keys = [shard.key(&self.space, &device.user), shard.ends(&self.space)];
        let mut call = self.call(code, shard, keys);
        call.arg(device.resource.as_str());
        call
    }

    /// Whether the sessions of a shard are complete, and those of each user.
    async fn read(&self, shard: Shard, users: &[&User]) -> Result<(bool, Vec<Lives>), StateError> {
        let keys = users.iter().map(|user| shard.key(&self.space, user));
        let call = self.call(&self.read, shard, keys);
        let (complete, rows): (bool, Vec<Vec<Row>>) = self.run(&call).await?;
        if rows.len() != users.len() {
            return Err(StateError::Impossible("user"));
        }
        let lives = |rows: Vec<Row>| rows.into_iter().map(session).collect();
        Ok((complete, rows.into_iter().map(lives).collect::<Result<_, _>>()?))
    }
}

/// The sessions of a user that live.
type Lives = Vec<(SessionId, Session)>;

/// What the shards answered that did; an error if none did.
fn all_or_some<T>(answers: Vec<Result<Vec<T>, StateError>>) -> Result<Vec<T>, StateError> {
    let (mut found, mut failed, mut answered) = (Vec::new(), None, false);
    for (shard, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(some) => {
                found.extend(some);
                answered = true;
            }
            Err(error) => {
                log(Shard(shard), &error);
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if !answered => Err(error),
        _ => Ok(found),
    }
}

/// What a server says that does not know a script.
const UNKNOWN: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);

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
    async fn open(
        &self,
        device: &Device,
        session: &Session,
        fresh: &SessionId,
    ) -> Result<Opened, StateError> {
        let active: u8 = match session.active {
            Active::Online => 1,
            Active::Away => 2,
        };
        let mut call = self.about(&self.open, device);
        call.arg(millis(session.lease.get()))
            .arg(active)
            .arg(session.status.as_str())
            .arg(MAX_SESSIONS)
            .arg(fresh.as_str())
            .arg(named(device));
        let id: String = self.run(&call).await?;
        let opened = |id| Opened::Done(SessionId::new(id));
        Ok(if id.is_empty() { Opened::TooMany } else { opened(id) })
    }

    async fn renew(&self, device: &Device) -> Result<Option<(SessionId, Session)>, StateError> {
        let mut call = self.about(&self.renew, device);
        call.arg(named(device));
        let found: Vec<Row> = self.run(&call).await?;
        found.into_iter().next().map(session).transpose()
    }

    async fn close(&self, device: &Device) -> Result<(), StateError> {
        let mut call = self.about(&self.close, device);
        call.arg(named(device));
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
                Ok((complete, seen)) => {
                    for (at, lives) in places.into_iter().zip(seen) {
                        let sessions = lives.into_iter().map(|(_, session)| session).collect();
                        found[at] = Some(Seen { sessions, complete });
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

    async fn ended(&self, hold: Duration) -> Result<Vec<Named>, StateError> {
        let ended = (0..SHARDS).map(|shard| async move {
            let shard = Shard(shard);
            let mut call = self.call(&self.ended, shard, [shard.ends(&self.space)]);
            call.arg(ENDED).arg(millis(hold));
            let ended: Vec<String> = self.run(&call).await?;
            let parse = |entry: &String| parse(entry).ok_or(StateError::Impossible("end"));
            ended.iter().map(parse).collect()
        });
        all_or_some(join_all(ended).await)
    }

    async fn forget(&self, ended: &[Named]) -> Result<(), StateError> {
        let of_shards = by_shard(ended);
        let forget = of_shards.into_iter().map(|(shard, ended)| async move {
            let mut call = self.call(&self.forget, shard, [shard.ends(&self.space)]);
            for ended in ended {
                call.arg(entry(ended));
            }
            let _: i64 = self.run(&call).await?;
            Ok(())
        });
        join_all(forget).await.into_iter().collect()
    }

    async fn gone(&self, sessions: Vec<Named>) -> Result<Vec<Named>, StateError> {
        let of_shards = by_shard(&sessions);
        let gone = of_shards.into_iter().map(|(shard, sessions)| async move {
            let users: Vec<_> = sessions.iter().map(|session| &session.device.user).collect();
            let (complete, found) = self.read(shard, &users).await?;
            let gone = |(named, lives): (&Named, Lives)| {
                let gone = complete && lives.iter().all(|(id, _)| *id != named.id);
                gone.then(|| named.clone())
            };
            Ok(sessions.into_iter().zip(found).filter_map(gone).collect())
        });
        all_or_some(join_all(gone).await)
    }

    async fn count(&self) -> Result<u64, StateError> {
        let counts = (0..SHARDS).map(|shard| async move {
            let shard = Shard(shard);
            let call = self.call(&self.count, shard, [shard.ends(&self.space)]);
            self.run::<u64>(&call).await
        });
        join_all(counts).await.into_iter().sum()
    }

    async fn pulse(&self) -> Result<(), StateError> {
        // Every shard that is there hears it, whichever is not.
        let reads = (0..SHARDS).map(|shard| self.read(Shard(shard), &[]));
        join_all(reads).await.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }
}

/// Sessions by the shards of their users.
fn by_shard(sessions: &[Named]) -> BTreeMap<Shard, Vec<&Named>> {
    let mut shards: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for session in sessions {
        shards.entry(Shard::of(&session.device.user)).or_default().push(session);
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fresh_id;

    #[test]
    fn a_session_in_the_list_of_ends_reads_as_it_was_written() {
        for (tenant, user, resource) in [("a", "b", "c"), ("1:2", ":", "3"), ("ü{x}", "é:", "::")]
        {
            let user = (TenantId::new(tenant), UserId::new(user));
            let device = Device { user, resource: Resource::new(resource.to_owned()) };
            let session = Named { device, id: fresh_id() };
            assert_eq!(parse(&entry(&session)), Some(session));
        }
        for bad in ["", "1:1:1", "1:1:1:a", "9:1:1:abc", "x:1:1:abc", "1:1:1:é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

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
