//! The bus of several processes: pub/sub of a Redis, or sharded pub/sub of a
//! Redis Cluster.
//!
//! One task keeps one session: connected, every subscription acknowledged, and a
//! canary heard back every second from every server, each of which is the one that writes
//! go to. Whatever else happens ends the session: everything is suspect, and the next
//! session is built from nothing.

mod connection;
mod high_water;
mod link;
mod session;
mod state;
mod subscriber;
mod tallies;
mod url;

pub use self::high_water::{HighWater, HighWaterError};
pub use self::link::{RedisLink, is_lost};
pub use self::state::{RedisState, StateError};
pub use self::tallies::{Tallies, TallyError};
pub use self::url::{InvalidRedisCa, InvalidRedisUrl, RedisUrl};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::session::{Link, Unsent};
use crate::fanout::Fanout;
use crate::{Bus, Heard, State};

/// How long Redis may take to answer a single command.
const ANSWER: Duration = Duration::from_millis(500);

/// How the bus is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// A word that tells this deployment from others on the same Redis: letters, digits,
    /// `-` and `_`.
    pub tag: String,
    /// Payloads that may wait for Redis, and as many notices; more are dropped.
    pub queue: usize,
    /// The time between two canaries; one that is not back by then is missed.
    pub canary: Duration,
    /// How long Redis may take to answer a command.
    pub response: Duration,
    /// How long a session may take until all its subscriptions are acknowledged.
    pub connect: Duration,
    /// How long to wait before the next try after a session ended.
    pub retry: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tag: "default".to_owned(),
            queue: 1024,
            canary: Duration::from_secs(1),
            response: Duration::from_millis(500),
            connect: Duration::from_secs(3),
            retry: Duration::from_millis(250),
        }
    }
}

/// The bus over Redis. Clones share one session; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct RedisBus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    payloads: mpsc::Sender<Outbound>,
    notices: mpsc::Sender<Outbound>,
    /// Where this is the bus that runs it.
    link: Option<JoinHandle<()>>,
}

/// A payload and its shard.
type Outbound = (u16, Bytes);

/// The state that the bus and its session share.
#[derive(Debug)]
struct Shared {
    fanout: Fanout,
    state: watch::Sender<State>,
    dropped: AtomicU64,
}

impl RedisBus {
    /// A bus that connects in the background, and whenever it must: Redis need not
    /// be there. To be called within a tokio runtime.
    pub fn start(url: &RedisUrl, options: Options) -> Self {
        let (mut inner, link) = Self::parts(url, options);
        inner.link = Some(tokio::spawn(link));
        Self(Arc::new(inner))
    }

    /// The same, and the task that somebody else runs: without it nothing is carried.
    pub fn new(url: &RedisUrl, options: Options) -> (Self, impl Future<Output = ()> + use<>) {
        let (inner, link) = Self::parts(url, options);
        (Self(Arc::new(inner)), link)
    }

    fn parts(url: &RedisUrl, options: Options) -> (Inner, impl Future<Output = ()> + use<>) {
        let (payloads, unsent) = mpsc::channel(options.queue);
        let (notices, unsent_notices) = mpsc::channel(options.queue);
        let shared = Shared::unheard();
        let unsent = Unsent { payloads: unsent, notices: unsent_notices };
        let link = Link::new(url.clone(), options, Arc::clone(&shared), unsent);
        (Inner { shared, payloads, notices, link: None }, link.run())
    }
}

impl Bus for RedisBus {
    fn publish(&self, shard: u16, payload: Bytes) {
        if !self.0.shared.is_up() || self.0.payloads.try_send((shard, payload)).is_err() {
            self.0.shared.drop_payloads(1);
        }
    }

    fn publish_notice(&self, shard: u16, payload: Bytes) {
        if !self.0.shared.is_up() || self.0.notices.try_send((shard, payload)).is_err() {
            tracing::debug!("a notice is dropped");
        }
    }

    fn reaches_others(&self) -> bool {
        true
    }

    fn subscribe(&self) -> mpsc::Receiver<Heard> {
        self.0.shared.fanout.subscribe()
    }

    fn state(&self) -> watch::Receiver<State> {
        self.0.shared.state.subscribe()
    }

    fn dropped(&self) -> u64 {
        self.0.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.abort();
        }
    }
}

impl Shared {
    /// To begin with.
    fn unheard() -> Arc<Self> {
        Arc::new(Self {
            fanout: Fanout::default(),
            state: watch::Sender::new(State::Down),
            dropped: AtomicU64::new(0),
        })
    }

    fn is_up(&self) -> bool {
        *self.state.borrow() == State::Up
    }

    fn drop_payloads(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Changes the state, and tells subscribers that everything is suspect.
    fn turn(&self, state: State) {
        self.state.send_replace(state);
        self.fanout.tell(Heard::Disturbed);
    }
}
