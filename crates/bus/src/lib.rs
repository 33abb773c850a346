//! Carries hints between the nodes of the message service: at most once, in no
//! order across shards. The store is the truth; a lost hint costs latency.

mod fanout;
mod in_process;
mod redis;
#[cfg(feature = "testing")]
pub mod testing;

pub use self::in_process::InProcessBus;
pub use self::redis::{
    HighWater, HighWaterError, InvalidRedisCa, InvalidRedisUrl, Options, RedisBus, RedisLink,
    RedisState, RedisUrl, StateError, Tallies, TallyError, is_lost,
};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

/// Over how many channels payloads are spread. Nodes of one deployment must agree.
pub const SHARDS: u16 = 256;

/// Something that a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A payload that a node published, perhaps this one.
    Payload(Bytes),
    /// Payloads from or to some node may have been lost: everything is suspect.
    Disturbed,
    /// This subscriber was too slow, so that payloads to it alone were lost.
    Lagged,
}

/// The bus carries payloads at present, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// Nothing is carried and what is published is dropped: look for yourself.
    Down,
}

/// Carries payloads to every subscriber of every node.
///
/// Payloads of one publisher and shard arrive in order or not at all. After any
/// loss that can be noticed every subscriber hears [`Heard::Disturbed`] (or
/// [`Heard::Lagged`], if the loss is its own), at once or when the bus is up again.
pub trait Bus: std::fmt::Debug + Send + Sync {
    /// Hands a payload to the bus; `shard` is below [`SHARDS`]. Never waits and
    /// never fails: what cannot be carried is dropped and counted.
    fn publish(&self, shard: u16, payload: Bytes);

    /// The same for what passes: it waits behind every payload of `publish`, and when it
    /// is dropped nobody is told.
    fn publish_notice(&self, shard: u16, payload: Bytes);

    /// Says if anybody but the one subscriber that asks can hear what is published.
    fn reaches_others(&self) -> bool;

    /// Hears everything published from now on, in a bounded queue. To be called
    /// within a tokio runtime.
    fn subscribe(&self) -> mpsc::Receiver<Heard>;

    /// Tells if the bus carries payloads, now and as it changes. While it is
    /// [`State::Down`] a disturbance has been told already, and another one will be
    /// told when it is up.
    fn state(&self) -> watch::Receiver<State>;

    /// Payloads of this node that were dropped so far, without notices.
    fn dropped(&self) -> u64;
}
