//! What sessions mean: how present users are, and who hears of it.

mod presence;
mod presences;
mod watch;

use std::time::Duration;

pub use presence::{
    Active, Availability, Device, InvalidSession, Lease, Presence, Resource, Session, Status, User,
};
pub use presences::{OnlineCount, Presences};
pub use watch::Watcher;

/// How the service is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often those who are watched are looked at: the least time between two
    /// frames of a watcher.
    pub watch: Duration,
    /// After so long without a good look, those who are watched are unknown.
    pub stale: Duration,
    /// How long somebody types who does not say so again.
    pub typing: Duration,
    /// The leases that may be asked for.
    pub leases: Leases,
    /// Open presence streams of one caller on this node.
    pub streams_per_caller: usize,
}

/// The leases that may be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Leases {
    pub shortest: Duration,
    pub default: Duration,
    pub longest: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            watch: seconds(1),
            stale: seconds(3),
            typing: seconds(30),
            leases: Leases::default(),
            streams_per_caller: 50,
        }
    }
}

impl Default for Leases {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { shortest: seconds(10), default: seconds(30), longest: seconds(60) }
    }
}
