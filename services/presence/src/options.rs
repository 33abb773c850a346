//! How the service is laid out.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How the service is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often those who are watched are looked at: the least time between two
    /// frames of a watcher.
    pub watch: Duration,
    /// After so long without a good look, those who are watched are unknown.
    pub stale: Duration,
    /// How often sessions that have ended are looked for.
    pub ended: Duration,
    /// How often all seats in live rooms are walked over: seats of sessions that were lost
    /// end by it.
    pub seat_walk: Duration,
    /// How long somebody types who does not say so again.
    pub typing: Duration,
    /// The leases that may be asked for.
    pub leases: Leases,
    /// What one caller may have open on this node.
    pub per_caller: Share,
    /// What one service token may, whoever it acts for.
    pub per_backend: Share,
    /// What all callers of one tenant may.
    pub per_tenant: Share,
    /// What all callers may.
    pub in_all: Share,
    /// How long a stream lives; drawn per stream.
    pub life: RangeInclusive<Duration>,
    /// How long a watcher is told nothing before a frame without users says that the stream
    /// lives; drawn anew each time.
    pub heartbeat: RangeInclusive<Duration>,
    /// How long a stream may not be read before it ends.
    pub stall: Duration,
    /// Over which time streams end when the node drains, so that their clients do not
    /// come to the others all at once.
    pub spread: Duration,
}

/// A bound of what is open at once on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Presence streams.
    pub streams: usize,
    /// Users whom they watch, each as often as it is watched.
    pub watched: usize,
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
            ended: Duration::from_millis(500),
            seat_walk: seconds(20),
            typing: seconds(30),
            leases: Leases::default(),
            per_caller: Share { streams: 50, watched: 5000 },
            per_backend: Share { streams: 2500, watched: 25_000 },
            per_tenant: Share { streams: 5000, watched: 50_000 },
            in_all: Share { streams: 20_000, watched: 200_000 },
            life: seconds(48 * 60)..=seconds(72 * 60),
            heartbeat: seconds(15)..=seconds(30),
            stall: seconds(60),
            spread: seconds(3),
        }
    }
}

impl Default for Leases {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { shortest: seconds(10), default: seconds(30), longest: seconds(60) }
    }
}
