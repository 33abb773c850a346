//! The conformance suite of sessions on both of their homes, and what Redis may do.

mod outage;

use async_trait::async_trait;
use parlance_presence::state::conformance::{Bed, DOUBT};
use parlance_presence::state::{MemorySessions, RedisSessions, Sessions};
use redis::aio::MultiplexedConnection;

struct Memory(MemorySessions);

struct Redis {
    sessions: RedisSessions,
    admin: MultiplexedConnection,
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

#[async_trait]
impl Bed for Redis {
    fn sessions(&self) -> &dyn Sessions {
        &self.sessions
    }

    async fn lose(&self) {
        let mut admin = self.admin.clone();
        let mut all = redis::cmd("KEYS");
        all.arg(format!("{}:*", self.space));
        let keys: Vec<String> = all.query_async(&mut admin).await.expect("keys");
        if !keys.is_empty() {
            redis::cmd("DEL").arg(keys).query_async::<()>(&mut admin).await.expect("deleted");
        }
    }

    async fn clear(&self) {
        self.lose().await;
    }
}

/// The Redis that `TEST_REDIS_URL` names.
fn url() -> String {
    std::env::var("TEST_REDIS_URL").expect("set TEST_REDIS_URL (see `make test`)")
}

async fn admin(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("Redis answers")
}

#[expect(clippy::unused_async, reason = "other beds are awaited")]
async fn memory() -> Memory {
    Memory(MemorySessions::new(DOUBT))
}

async fn redis_space() -> Redis {
    redis_at(url()).await
}

async fn redis_at(url: String) -> Redis {
    let space = uuid::Uuid::new_v4().simple().to_string();
    let sessions = RedisSessions::open(&url, &space, DOUBT).expect("a URL");
    Redis { sessions, admin: admin(&url).await, space }
}

mod memory_sessions {
    parlance_presence::test_sessions!(super::memory);
}

mod redis_sessions {
    parlance_presence::test_sessions!(super::redis_space);
}
