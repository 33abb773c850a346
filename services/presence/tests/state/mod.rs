//! The conformance suite of sessions on both of their homes, and what Redis may do.

mod clock;
pub(crate) mod outage;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use parlance_bus::RedisUrl;
use parlance_bus::testing::redis_url;
use parlance_presence::state::conformance::{Bed, DOUBT};
use parlance_presence::state::{MemorySessions, RedisSessions, Sessions};
use redis::aio::MultiplexedConnection;

struct Memory(MemorySessions);

struct Redis {
    sessions: RedisSessions,
    /// One for each server.
    admins: Vec<MultiplexedConnection>,
    /// The keys of one test begin with it.
    space: String,
}

#[async_trait]
impl Bed for Memory {
    fn sessions(&self) -> &dyn Sessions {
        &self.0
    }

    async fn lose(&self) {
        self.0.lose();
    }
}

impl Redis {
    /// What one of the servers stores.
    async fn keys(&self, admin: &mut MultiplexedConnection) -> Vec<String> {
        let mut all = redis::cmd("KEYS");
        all.arg(format!("{}:*", self.space));
        all.query_async(admin).await.expect("keys")
    }

    /// Lets the server's clock go back by so much: what is stored is of its future.
    async fn set_back(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).expect("a time");
        let later = |time: &str, by: i64| (time.parse::<i64>().expect("a time") + by).to_string();
        for admin in &self.admins {
            let mut admin = admin.clone();
            for key in self.keys(&mut admin).await {
                if key.ends_with(":ends") {
                    let mut ends = redis::cmd("ZRANGE");
                    let ends: Vec<String> =
                        ends.arg(&key).arg(0).arg(-1).query_async(&mut admin).await.expect("ends");
                    for named in ends {
                        let mut set = redis::cmd("ZINCRBY");
                        set.arg(&key).arg(by).arg(named);
                        set.query_async::<String>(&mut admin).await.expect("set");
                    }
                    continue;
                }
                let mut fields = redis::cmd("HGETALL");
                let fields: BTreeMap<String, String> =
                    fields.arg(&key).query_async(&mut admin).await.expect("fields");
                for (field, value) in fields {
                    // A marker's times, or a session: when it ends, when it was opened.
                    let value = match value.splitn(3, ' ').collect::<Vec<_>>()[..] {
                        [time] => later(time, by),
                        [ends, opened, rest] => {
                            format!("{} {} {rest}", later(ends, by), later(opened, by * 1000))
                        }
                        _ => panic!("{value}"),
                    };
                    let mut set = redis::cmd("HSET");
                    set.arg(&key).arg(field).arg(value);
                    set.query_async::<()>(&mut admin).await.expect("set");
                }
            }
        }
    }
}

#[async_trait]
impl Bed for Redis {
    fn sessions(&self) -> &dyn Sessions {
        &self.sessions
    }

    async fn lose(&self) {
        for admin in &self.admins {
            let mut admin = admin.clone();
            // One by one: in a cluster they are of different slots.
            for key in self.keys(&mut admin).await {
                redis::cmd("DEL").arg(key).query_async::<()>(&mut admin).await.expect("deleted");
            }
        }
    }

    async fn clear(&self) {
        self.lose().await;
    }
}

async fn admin(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("Redis answers")
}

fn space() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[expect(clippy::unused_async, reason = "other beds are awaited")]
async fn memory() -> Memory {
    Memory(MemorySessions::new(DOUBT))
}

async fn redis_space() -> Redis {
    redis_at(&redis_url("TEST_REDIS_URL")).await
}

async fn cluster_space() -> Redis {
    redis_at(&redis_url("TEST_REDIS_CLUSTER_URL")).await
}

async fn redis_at(url: &RedisUrl) -> Redis {
    let space = space();
    let sessions = RedisSessions::open(url, &space, DOUBT).expect("an address");
    let mut admins = Vec::new();
    for node in url.servers() {
        admins.push(admin(node).await);
    }
    Redis { sessions, admins, space }
}

mod memory_sessions {
    parlance_presence::test_sessions!(super::memory);
}

mod redis_sessions {
    parlance_presence::test_sessions!(super::redis_space);
}

mod cluster_sessions {
    parlance_presence::test_sessions!(super::cluster_space);
}
