//! The queues of the writers: each owns a connection and the logs of a shard.

mod attempts;
mod writer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parlance_bus::HighWater;
use parlance_db::Db;
use parlance_rpc::{Reason, Tasks};
use parlance_types::{Clock, LogId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::writer::{Job, Pending, Reply, Send, Writer};
use crate::change::Transaction;
use crate::room_id::Resolver;
use crate::{Entry, Error, Publish, Sent};

/// How the write path is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Writers, each with a connection of its own; one on SQLite whatever is asked.
    pub writers: usize,
    /// Requests that may wait for each writer before more are refused.
    pub queue: usize,
    /// Sends that share one transaction at most.
    pub batch: usize,
    /// How long a request may take from being queued to being answered.
    pub deadline: Duration,
    /// Remembers how far the database has counted, where there is something outside of it.
    pub high_water: Option<Arc<HighWater>>,
}

impl Default for Options {
    fn default() -> Self {
        let deadline = Duration::from_secs(10);
        Self { writers: 4, queue: 1024, batch: 256, deadline, high_water: None }
    }
}

/// The writers of a store.
#[derive(Debug)]
pub(crate) struct Writers {
    queues: Vec<mpsc::Sender<Job>>,
    deadline: Duration,
    closing: CancellationToken,
    tasks: TaskTracker,
    unknown_commits: Arc<AtomicU64>,
}

impl Writers {
    /// Starts the writers. `doubt` is set with every new connection to the database.
    pub(crate) fn start(
        db: &Db,
        clock: &Arc<dyn Clock>,
        options: &Options,
        publish: &Publish,
        resolver: &Resolver,
        doubt: &Arc<AtomicBool>,
        tasks: &Tasks,
    ) -> Self {
        let count = if matches!(db, Db::Sqlite(_)) { 1 } else { options.writers.max(1) };
        let mut writers = Self {
            queues: Vec::with_capacity(count),
            deadline: options.deadline,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            unknown_commits: Arc::default(),
        };
        for _ in 0..count {
            let (queue, jobs) = mpsc::channel(options.queue.max(1));
            writers.queues.push(queue);
            let writer = Writer {
                db: db.clone(),
                clock: Arc::clone(clock),
                options: options.clone(),
                publish: Arc::clone(publish),
                resolver: resolver.clone(),
                jobs,
                closing: writers.closing.clone(),
                conn: None,
                doubt: Arc::clone(doubt),
                unknown_commits: Arc::clone(&writers.unknown_commits),
            };
            let (run, stop) = (writers.tasks.track_future(writer.run()), tasks.stop().clone());
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

    /// Lets everything queued finish, then stops the writers.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) async fn append(&self, entry: Entry) -> Result<Sent, Error> {
        self.submit(entry.log_id, |reply| Job::Send(Send { entry, reply })).await
    }

    pub(crate) async fn run<T: Transaction>(&self, change: T) -> Result<T::Done, Error> {
        let log_id = change.log();
        self.submit(log_id, |reply| Job::Change(Box::new(Pending { change, reply }))).await
    }

    /// Queues a job with the log's writer and waits for its answer.
    async fn submit<T>(
        &self,
        log_id: LogId,
        job: impl FnOnce(Reply<T>) -> Job,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let mut hash = DefaultHasher::new();
        log_id.hash(&mut hash);
        let shard = usize::try_from(hash.finish() % self.queues.len() as u64).unwrap_or(0);
        self.queues[shard].try_send(job(reply)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                Error::Refused(Reason::Overloaded, "too many requests are waiting to be written")
            }
            mpsc::error::TrySendError::Closed(_) => Error::draining(),
        })?;
        match timeout(self.deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::late(self.deadline)),
        }
    }
}
