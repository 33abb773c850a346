//! How the read path is laid out.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::batch::BatchLimits;
use super::ring::Limits;

/// How the read path is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of a ring; there is one for each log in use.
    pub ring: Limits,
    /// Bytes that all rings of this node hold together. Over it rings shrink to a few
    /// KiB, and streams that are behind read from the database.
    pub ring_budget: usize,
    /// How long a ring is kept after its last stream.
    pub ring_linger: Duration,
    /// Bytes that cached blocks may take on this node.
    pub block_cache: u64,
    /// How often heads are looked at: bounds the delay of a lost hint.
    pub head_check: Duration,
    /// How often heads are looked at while the bus is away.
    pub poll: Duration,
    /// How long a missing event may be late before it is read from the database.
    pub reorder_wait: Duration,
    /// The part of a stream that is handed to the transport at once.
    pub chunk: BatchLimits,
    /// How long a stream may not be read before it is given up; found out by the check
    /// of heads.
    pub stall: Duration,
    /// The time between two heartbeats; drawn anew each time.
    pub heartbeat: RangeInclusive<Duration>,
    /// How long a stream lives; drawn per stream.
    pub life: RangeInclusive<Duration>,
    /// The longest time a client is asked to wait before it comes again.
    pub go_away_after: Duration,
    /// Open streams of one user on this node.
    pub streams_per_user: usize,
    /// Open streams on this node that act for nobody, per tenant.
    pub streams_for_nobody: usize,
    /// Open streams of one service on this node, whoever it acts for.
    pub streams_per_service: usize,
    /// Rooms that one stream attaches at the same time; also blocks that it reads.
    pub attaching: usize,
    /// How long to wait before the store is asked again after a failure.
    pub retry: Duration,
    /// How long one question to the store may take.
    pub deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            ring: Limits { events: 512, bytes: 1024 * 1024 },
            ring_budget: 256 * 1024 * 1024,
            ring_linger: seconds(30),
            block_cache: 64 * 1024 * 1024,
            head_check: seconds(2),
            poll: Duration::from_millis(300),
            reorder_wait: Duration::from_millis(20),
            chunk: BatchLimits { frames: 64, bytes: 64 * 1024 },
            stall: seconds(60),
            heartbeat: seconds(15)..=seconds(30),
            life: seconds(48 * 60)..=seconds(72 * 60),
            go_away_after: seconds(5),
            streams_per_user: 100,
            streams_for_nobody: 1000,
            streams_per_service: 10_000,
            attaching: 8,
            retry: seconds(1),
            deadline: seconds(10),
        }
    }
}
