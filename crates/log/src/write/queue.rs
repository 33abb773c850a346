//! What waits for one writer.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::future::BoxFuture;
use parlance_db::Conn;
use parlance_rpc::Reason;
use parlance_telemetry::traces::SpanContext;
use parlance_types::{LogId, Micros};
use tokio::sync::{Notify, oneshot};

use super::turns::{Turns, Who};
use crate::change::Transaction;
use crate::{Appended, Entry, Error, Sent};

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What a writer does for somebody who waits for it.
pub(super) trait Task {
    fn log_id(&self) -> LogId;
    fn who(&self) -> Who;
    /// Whether anybody still waits for it.
    fn waits(&self) -> bool;
    fn fail(self, error: Error);
}

/// A message and who waits for it.
pub(super) struct Send {
    pub(super) entry: Entry,
    /// When it was queued, if that is measured.
    pub(super) queued: Option<Instant>,
    /// The span of its request, if a collector is told of it.
    pub(super) traced: Option<SpanContext>,
    pub(super) reply: Reply<Sent>,
}

/// What is run between BEGIN and COMMIT, whatever comes of it.
pub(super) trait Work: std::marker::Send + Sync {
    fn log_id(&self) -> LogId;
    fn who(&self) -> Who;
    fn waits(&self) -> bool;
    /// See [`Transaction::SHARES`].
    fn shares(&self) -> bool;
    /// Runs it, and keeps what came of it. Fails if all that shares the transaction does.
    fn run<'a>(&'a mut self, conn: &'a mut Conn, now: Micros)
    -> BoxFuture<'a, Result<Told, Error>>;
    /// Answers with what came of it.
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: Error);
}

/// What there is to tell of a work that was run.
pub(super) struct Told {
    pub(super) appended: Option<Appended>,
    /// Whether its log is closed now.
    pub(super) closed: bool,
}

/// A transaction and who waits for it.
pub(super) struct Pending<T: Transaction> {
    pub(super) change: T,
    pub(super) reply: Reply<T::Done>,
    pub(super) done: Option<Result<T::Done, Error>>,
}

/// A task in its queue.
pub(super) struct Job<T> {
    pub(super) task: T,
    /// Whether a run of it may have been committed.
    pub(super) begun: bool,
}

/// The queue of a writer.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    woken: Notify,
}

/// Which of what waits in a queue.
pub(super) type Of<T> = fn(&mut State) -> &mut Turns<Job<T>>;

pub(super) const SENDS: Of<Send> = |state| &mut state.sends;
pub(super) const WORKS: Of<Box<dyn Work>> = |state| &mut state.works;

pub(super) struct State {
    sends: Turns<Job<Send>>,
    works: Turns<Job<Box<dyn Work>>>,
    closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl Queue {
    /// A queue for `most` sends, and as many works.
    pub(super) fn new(most: usize) -> Self {
        let priority = |job: &Job<Send>| job.task.entry.priority;
        let (sends, works) = (Turns::ranked(most, priority), Turns::new(most));
        Self { state: Mutex::new(State { sends, works, closed: false }), woken: Notify::new() }
    }

    pub(super) fn send(&self, job: Job<Send>) {
        self.put(job, SENDS);
    }

    pub(super) fn work(&self, job: Job<Box<dyn Work>>) {
        self.put(job, WORKS);
    }

    /// Queues a job, and refuses whatever there is no place for.
    pub(super) fn put<T: Task>(&self, job: Job<T>, turns: Of<T>) {
        let mut state = self.lock();
        let refused = if state.closed {
            Some((job, Error::draining()))
        } else {
            let who = job.task.who();
            turns(&mut state).push(&who, job).map(|job| (job, overloaded()))
        };
        drop(state);
        self.woken.notify_one();
        if let Some((job, error)) = refused {
            job.task.fail(error);
        }
    }

    /// The next send, if it fits.
    pub(super) fn next_send(&self, fits: impl FnOnce(&Send) -> bool) -> Option<Job<Send>> {
        self.lock().sends.next_if(|job| fits(&job.task))
    }

    /// The next work, if it fits.
    pub(super) fn next_work(
        &self,
        fits: impl FnOnce(&dyn Work) -> bool,
    ) -> Option<Job<Box<dyn Work>>> {
        self.lock().works.next_if(|job| fits(&*job.task))
    }

    /// Takes everything out that is about these logs, in its order.
    pub(super) fn take_of<T: Task>(&self, logs: &BTreeSet<LogId>, turns: Of<T>) -> Vec<Job<T>> {
        turns(&mut self.lock()).take_all(|job| logs.contains(&job.task.log_id()))
    }

    /// Whether anything that waits is about a log.
    pub(super) fn has(&self, log_id: LogId) -> bool {
        let state = self.lock();
        state.sends.any(|job| job.task.log_id() == log_id)
            || state.works.any(|job| job.task.log_id() == log_id)
    }

    /// How many sends and works wait.
    pub(super) fn waiting(&self) -> usize {
        let state = self.lock();
        state.sends.len() + state.works.len()
    }

    pub(super) fn sends_wait(&self) -> bool {
        !self.lock().sends.is_empty()
    }

    /// Waits until something waits; `false` once nothing does and nothing will.
    pub(super) async fn ready(&self) -> bool {
        loop {
            {
                let state = self.lock();
                if !state.sends.is_empty() || !state.works.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
            }
            self.woken.notified().await;
        }
    }

    /// Refuses what comes from now on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.woken.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task for Send {
    fn log_id(&self) -> LogId {
        self.entry.log_id
    }

    fn who(&self) -> Who {
        Who::from(&self.entry.actor)
    }

    fn waits(&self) -> bool {
        !self.reply.is_closed()
    }

    fn fail(self, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}

impl Task for Box<dyn Work> {
    fn log_id(&self) -> LogId {
        (**self).log_id()
    }

    fn who(&self) -> Who {
        (**self).who()
    }

    fn waits(&self) -> bool {
        (**self).waits()
    }

    fn fail(self, error: Error) {
        Work::fail(self, error);
    }
}

impl<T: Transaction> Work for Pending<T> {
    fn log_id(&self) -> LogId {
        self.change.log()
    }

    fn who(&self) -> Who {
        self.change.who()
    }

    fn waits(&self) -> bool {
        !self.reply.is_closed()
    }

    fn shares(&self) -> bool {
        T::SHARES
    }

    fn run<'a>(
        &'a mut self,
        conn: &'a mut Conn,
        now: Micros,
    ) -> BoxFuture<'a, Result<Told, Error>> {
        Box::pin(async move {
            let executed = self.change.execute(conn, now).await?;
            self.done = Some(executed.done);
            Ok(Told { appended: executed.appended, closed: executed.closed })
        })
    }

    fn answer(self: Box<Self>) {
        let Self { reply, done, .. } = *self;
        if let Some(done) = done {
            let _ = reply.send(done);
        }
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}

fn overloaded() -> Error {
    Error::Refused(Reason::Overloaded, "too many requests are waiting to be written")
}
