//! The writers: each owns a connection and the logs of a shard. Requests only wait in
//! their queues, so one that is cancelled leaves nothing half done.

mod attempts;
mod changes;
mod lanes;
mod measure;
mod queue;
mod sends;
mod turns;
mod writer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlance_bus::HighWater;
use parlance_db::Db;
use parlance_rpc::{Tasks, sampled};
use parlance_types::{Clock, LogId};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::lanes::{LANES, Lanes};
use self::queue::{Job, Pending, Queue, Reply, Send, Work};
pub(crate) use self::turns::{Party, Who};
use self::writer::Writer;
use crate::change::Transaction;
use crate::room_id::Resolver;
use crate::{Entry, Error, Publish, Sent};

/// How the write path is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Writers, each with a connection of its own; one on SQLite whatever is asked.
    pub writers: usize,
    /// Messages that may wait for each writer before more are refused, and as many changes.
    /// Refused are those who have most waiting: first of a tenant, then of a user.
    pub queue: usize,
    /// Sends that share one transaction at most.
    pub batch: usize,
    /// How long a request may take from being queued to being answered.
    pub deadline: Duration,
    /// How long the log of a deleted room is kept.
    pub deleted_retention: Duration,
    /// Remembers how far the database has counted, where there is something outside of it.
    pub high_water: Option<Arc<HighWater>>,
}

impl Default for Options {
    fn default() -> Self {
        let deadline = Duration::from_secs(10);
        let deleted_retention = Duration::from_hours(30 * 24);
        Self { writers: 4, queue: 1024, batch: 256, deadline, deleted_retention, high_water: None }
    }
}

/// The writers of a store.
#[derive(Debug)]
pub(crate) struct Writers {
    queues: Vec<Arc<Queue>>,
    lanes: Lanes,
    deadline: Duration,
    /// The tasks of the writers, and of the lanes, which end later.
    running: [TaskTracker; 2],
    unknown_commits: Arc<AtomicU64>,
}

impl Writers {
    /// Starts the writers.
    pub(crate) fn start(
        db: &Db,
        clock: &Arc<dyn Clock>,
        options: &Options,
        publish: &Publish,
        resolver: &Resolver,
        tasks: &Tasks,
    ) -> Self {
        let (count, beside) = match db {
            Db::Sqlite(_) => (1, 0),
            Db::Postgres(_) => (options.writers.max(1), LANES),
        };
        let most = options.queue.max(1);
        let writers = Self {
            queues: (0..count).map(|_| Arc::new(Queue::new(most))).collect(),
            lanes: Lanes::new(beside, most),
            deadline: options.deadline,
            running: [TaskTracker::new(), TaskTracker::new()],
            unknown_commits: Arc::default(),
        };
        let idle = |queue: &Arc<Queue>, is_lane| Writer {
            db: db.clone(),
            clock: Arc::clone(clock),
            options: options.clone(),
            publish: Arc::clone(publish),
            resolver: resolver.clone(),
            queue: Arc::clone(queue),
            left: Vec::new(),
            had: Vec::new(),
            lanes: writers.lanes.clone(),
            is_lane,
            conn: None,
            unknown_commits: Arc::clone(&writers.unknown_commits),
        };
        let [main, last] = &writers.running;
        let shards = writers.queues.iter().map(|queue| (idle(queue, false), main));
        let lanes = writers.lanes.queues.iter().map(|queue| (idle(queue, true), last));
        for (writer, running) in shards.chain(lanes) {
            let (run, stop) = (running.track_future(writer.run()), tasks.stop().clone());
            // One that was closed has not failed.
            tasks.vital("writer", async move {
                run.await;
                stop.cancelled().await;
            });
        }
        writers
    }

    pub(crate) fn unknown_commits(&self) -> u64 {
        self.unknown_commits.load(Ordering::Relaxed)
    }

    /// How many messages and changes wait, in all queues and lanes.
    pub(crate) fn waiting(&self) -> usize {
        self.queues.iter().chain(&*self.lanes.queues).map(|queue| queue.waiting()).sum()
    }

    /// Lets everything queued finish, then stops the writers: the lanes last, to which the
    /// others may give something until they have stopped.
    pub(crate) async fn close(&self) {
        for (queues, running) in [&*self.queues, &*self.lanes.queues].into_iter().zip(&self.running)
        {
            for queue in queues {
                queue.close();
            }
            running.close();
            running.wait().await;
        }
    }

    /// Queues an entry, now: of one caller and log what is queued first is appended first.
    pub(crate) fn append(
        &self,
        entry: Entry,
    ) -> impl Future<Output = Result<Sent, Error>> + std::marker::Send + use<> {
        let (log_id, queued, traced) = (entry.log_id, measure::now(), sampled());
        let put = move |queue: &Queue, reply| {
            queue.send(Job { task: Send { entry, queued, traced, reply }, begun: false });
        };
        self.submit(log_id, put)
    }

    pub(crate) async fn run<T: Transaction>(&self, change: T) -> Result<T::Done, Error> {
        let log_id = change.log();
        let put = |queue: &Queue, reply| {
            let task: Box<dyn Work> = Box::new(Pending { change, reply, done: None });
            queue.work(Job { task, begun: false });
        };
        self.submit(log_id, put).await
    }

    /// Queues a job with the log's writer; gives its answer.
    fn submit<T, P: FnOnce(&Queue, Reply<T>)>(
        &self,
        log_id: LogId,
        put: P,
    ) -> impl Future<Output = Result<T, Error>> + use<T, P> {
        let (reply, answer) = oneshot::channel();
        let usual = &self.queues[shard(log_id, self.queues.len())];
        self.lanes.put(log_id, usual, |queue| put(queue, reply));
        let deadline = self.deadline;
        let answer = timeout(deadline, answer);
        async move {
            match answer.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Err(Error::late(deadline)),
            }
        }
    }
}

/// Which one of so many a log belongs to.
fn shard(log_id: LogId, count: usize) -> usize {
    let mut hash = DefaultHasher::new();
    log_id.hash(&mut hash);
    usize::try_from(hash.finish() % count.max(1) as u64).unwrap_or(0)
}
