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

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlance_types::LogId;

use super::queue::{Job, Of, Queue, Task};
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

    /// Puts something about a log into its lane if its head was last seen held, else into the
    /// queue that it has usually. Nothing is put meanwhile by which somebody's messages to one
    /// log would change places.
    pub(super) fn put(&self, log_id: LogId, usual: &Queue, put: impl FnOnce(&Queue)) {
        let held = self.lock();
        let lane = if held.contains(&log_id) { self.lane(log_id) } else { None };
        put(lane.unwrap_or(usual));
    }

    /// Moves what is about logs whose heads are held from now on into their lanes: first what
    /// was taken, then what waits behind it in the queue.
    pub(super) fn hold<T: Task>(
        &self,
        logs: &BTreeSet<LogId>,
        taken: Vec<Job<T>>,
        queue: &Queue,
        turns: Of<T>,
    ) {
        let mut held = self.lock();
        if held.len() + logs.len() > HELD {
            held.clear();
        }
        held.extend(logs);
        let waiting = queue.take_of(logs, turns);
        for job in taken.into_iter().chain(waiting) {
            if let Some(lane) = self.lane(job.task.log_id()) {
                lane.put(job, turns);
            }
        }
    }

    /// The head of a log was had: what comes from now on takes the usual way, unless something
    /// about the log waits in its lane, `queue`.
    pub(super) fn free(&self, log_id: LogId, queue: &Queue) {
        let mut held = self.lock();
        if held.contains(&log_id) && !queue.has(log_id) {
            held.remove(&log_id);
        }
    }

    fn lane(&self, log_id: LogId) -> Option<&Queue> {
        self.queues.get(shard(log_id, self.queues.len())).map(|queue| &**queue)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<LogId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
