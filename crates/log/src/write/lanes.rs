//! Lanes for logs whose heads somebody else holds.
//!
//! A writer waits for a head no longer than two replicas that append to one log by turns keep
//! each other waiting. What is about a log whose head is held longer goes to a lane, a
//! writer of its own with a connection of its own, which waits as long as it takes; so does
//! what comes for that log meanwhile. The other logs of the writer go on:
//!
//! ```text
//! writer   a b c d      100 ms: b is held      a c d      a c d a ...
//! lane                                         b ....... b b       b is free
//! ```

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlance_types::LogId;

use super::queue::Queue;
use super::shard;

/// How many there are. Their connections are made when they are needed first.
pub(super) const LANES: usize = 4;

/// More logs that are held are looked for anew: most of them are free by then.
const HELD: usize = 10_000;

/// The lanes of a store; none on SQLite, which has no locks of single logs.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    pub(super) queues: Arc<[Arc<Queue>]>,
    held: Arc<Mutex<HashSet<LogId>>>,
}

impl Lanes {
    pub(super) fn new(count: usize, most: usize) -> Self {
        let queues = (0..count).map(|_| Arc::new(Queue::new(most))).collect();
        Self { queues, held: Arc::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The lane of a log, if its head was last seen held.
    pub(super) fn of(&self, log_id: LogId) -> Option<&Queue> {
        if self.lock().contains(&log_id) { self.lane(log_id) } else { None }
    }

    /// The lane of a log whose head is held from now on.
    pub(super) fn hold(&self, log_id: LogId) -> Option<&Queue> {
        let mut held = self.lock();
        if held.len() >= HELD {
            held.clear();
        }
        held.insert(log_id);
        drop(held);
        self.lane(log_id)
    }

    /// The head of a log was had: what comes from now on takes the usual way.
    pub(super) fn free(&self, log_id: LogId) {
        self.lock().remove(&log_id);
    }

    fn lane(&self, log_id: LogId) -> Option<&Queue> {
        self.queues.get(shard(log_id, self.queues.len())).map(|queue| &**queue)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<LogId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
