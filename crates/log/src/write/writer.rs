//! A writer: it takes whatever waits when its connection is idle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parlance_db::{Conn, Db, StoreError, Trouble};
use parlance_types::{Clock, LogId};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Options;
use super::attempts::{Attempts, lost};
use super::lanes::Lanes;
use super::queue::{Job, Of, Queue, Task, Work};
use crate::room_id::Resolver;
use crate::{Appended, Error, Publish, epoch, head};

/// What holds for a writer beyond what holds for every connection.
const SETTINGS: [(&str, &str); 3] = [
    ("default_transaction_isolation", "read committed"),
    // How long a lane waits for a head. One that is held longer holds up its own log.
    ("lock_timeout", "2000"),
    // What a replica holds that stands still in the middle of a change.
    ("idle_in_transaction_session_timeout", "1000"),
];

/// How long others wait for a head, before the logs that are held go to their lanes.
const BRIEFLY: &str = "SET lock_timeout = 100";

/// A writer before it runs.
pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    pub(super) publish: Publish,
    pub(super) resolver: Resolver,
    pub(super) queue: Arc<Queue>,
    /// What was taken, and left for the next transaction.
    pub(super) left: Vec<Job<Box<dyn Work>>>,
    pub(super) lanes: Lanes,
    /// The logs whose heads a lane has had since it looked for work last.
    pub(super) had: Vec<LogId>,
    /// Whether it is one of the lanes: then it works for one log at a time.
    pub(super) is_lane: bool,
    /// The connection, where it is the writer's own.
    pub(super) conn: Option<Conn>,
    pub(super) unknown_commits: Arc<AtomicU64>,
}

impl Writer {
    /// Works until its queue is closed and nothing waits any more: messages and changes by
    /// turns, so that neither waits for more than one transaction of the other kind.
    pub(super) async fn run(mut self) {
        while !self.left.is_empty() || self.queue.ready().await {
            // Those that came with the first are on their way into the queue.
            yield_now().await;
            let sends = self.gather();
            self.send(sends).await;
            let works = self.take();
            self.change(works).await;
            // Not before: what a lane has taken, too, comes before what takes the usual way.
            for log_id in self.had.drain(..) {
                self.lanes.free(log_id, &self.queue);
            }
        }
    }

    pub(super) fn publish(&self, appended: Vec<Appended>) {
        if !appended.is_empty() {
            (self.publish)(appended);
        }
    }

    /// Puts what is about logs whose heads somebody else holds into the lanes, after a run of
    /// it got stuck. Returns the rest.
    pub(super) async fn set_aside<T: Task>(
        &mut self,
        jobs: Vec<Job<T>>,
        begun: bool,
        turns: Of<T>,
    ) -> Vec<Job<T>> {
        if self.is_lane || self.lanes.is_empty() {
            return jobs;
        }
        let mut held: BTreeSet<LogId> = jobs.iter().map(|job| job.task.log_id()).collect();
        // If not even that can be told, the trouble is not with single logs.
        let Ok(free) = self.free(&held).await else { return jobs };
        for log_id in free {
            held.remove(&log_id);
        }
        let is_held = |job: &Job<T>| held.contains(&job.task.log_id());
        let (mut aside, rest): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_held);
        for job in &mut aside {
            job.begun |= begun;
        }
        self.lanes.hold(&held, aside, &self.queue, turns);
        rest
    }

    /// Those of the logs whose heads nobody holds.
    async fn free(&mut self, logs: &BTreeSet<LogId>) -> Result<Vec<LogId>, Error> {
        let mut conn = self.connect().await?;
        let free = self.in_time(head::free(&mut conn, logs)).await;
        self.keep(conn, free).await
    }

    pub(super) async fn in_time<T>(
        &self,
        run: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let deadline = self.options.deadline;
        timeout(deadline, run).await.unwrap_or_else(|_| Err(Error::late(deadline)))
    }

    /// Keeps the connection of a run if it is the writer's own and can be used again.
    pub(super) async fn keep<T>(
        &mut self,
        mut conn: Conn,
        result: Result<T, Error>,
    ) -> Result<T, Error> {
        let fit = match &result {
            Ok(_) => true,
            Err(Error::Store(error)) if error.ends_connection() => false,
            Err(_) => conn.rollback().await.is_ok(),
        };
        if fit && matches!(conn, Conn::Postgres(_)) {
            self.conn = Some(conn);
        }
        result
    }

    /// The same of a run that may have been committed if its connection was lost.
    pub(super) async fn keep_of_run<T>(
        &mut self,
        conn: Conn,
        result: Result<T, Error>,
        attempts: &mut Attempts,
    ) -> Result<T, Error> {
        if matches!(&result, Err(error) if lost(error)) {
            attempts.interrupted = true;
            self.unknown_commits.fetch_add(1, Ordering::Relaxed);
        }
        self.keep(conn, result).await
    }

    pub(super) async fn connect(&mut self) -> Result<Conn, Error> {
        if let Some(conn) = self.conn.take() {
            return Ok(conn);
        }
        // Whatever the server said, it was not about the change.
        self.in_time(self.connect_anew()).await.map_err(|error| match error {
            Error::Store(error) if !error.heals() => StoreError::broken(error).into(),
            error => StoreError::away(error).into(),
        })
    }

    async fn connect_anew(&self) -> Result<Conn, Error> {
        let Db::Postgres(db) = &self.db else { return Ok(self.db.writer().await?) };
        let mut conn = db.connect(SETTINGS).await?;
        let marks = self.options.high_water.as_deref();
        epoch::check(&mut conn, marks, self.clock.now()).await?;
        if !self.is_lane {
            conn.query(BRIEFLY).execute().await?;
        }
        Ok(conn)
    }
}

/// Whether what failed waited too long for a lock.
pub(super) fn stuck(error: &Error) -> bool {
    matches!(error, Error::Store(error) if error.trouble() == Trouble::Stuck)
}

/// Whether what failed was refused by the database, so that one of several may be why.
pub(super) fn refused(error: &Error) -> bool {
    matches!(error, Error::Store(error) if error.trouble() == Trouble::Refused)
}

/// Whether nobody waits for any of it.
pub(super) fn abandoned<T: Task>(jobs: &[Job<T>]) -> bool {
    !jobs.iter().any(|job| job.task.waits())
}

pub(super) fn halves<T>(mut jobs: Vec<T>) -> [Vec<T>; 2] {
    let second = jobs.split_off(jobs.len() / 2);
    [jobs, second]
}

/// Answers everybody with an error.
pub(super) fn fail<T: Task>(jobs: Vec<Job<T>>, error: Error) {
    let shared = match &error {
        Error::Store(error) => error.shared(),
        error => StoreError::away(error.to_string()),
    };
    let mut first = Some(error);
    for job in jobs {
        let error = first.take().unwrap_or_else(|| shared.shared().into());
        job.task.fail(error);
    }
}
