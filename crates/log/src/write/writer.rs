//! A writer: it takes whatever waits when its connection is idle.
//!
//! Requests only wait in a writer's queue, so one that is cancelled leaves nothing
//! half done.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::BoxFuture;
use parlance_db::{Conn, Db, StoreError, Trouble};
use parlance_rpc::Reason;
use parlance_types::{Clock, LogId, MessageId, Seq};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::attempts::{Attempts, lost};
use crate::change::{Executed, Transaction};
use crate::room_id::Resolver;
use crate::send::{self, Outcome, Verdict};
use crate::{Appended, Entry, Error, Publish, Sent, View, epoch, read, view};

/// What holds for a writer beyond what holds for every connection.
const SETTINGS: [(&str, &str); 3] = [
    ("default_transaction_isolation", "read committed"),
    // A head that is held longer holds up its own log, and not all others of a batch.
    ("lock_timeout", "2000"),
    // What a replica holds that stands still in the middle of a change.
    ("idle_in_transaction_session_timeout", "1000"),
];

/// Payloads that share one transaction, in bytes; the last one may exceed it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How many events are published again of a log whose last commit was in doubt.
const TAIL: Seq = 16;

/// One request for a writer.
pub(super) enum Job {
    Send(Send),
    Change(Box<dyn Work>),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A message and who waits for it.
pub(super) struct Send {
    pub(super) entry: Entry,
    pub(super) reply: Reply<Sent>,
}

/// A change and who waits for it.
pub(super) struct Pending<T: Transaction> {
    pub(super) change: T,
    pub(super) reply: Reply<T::Done>,
}

/// What a writer runs alone, whatever comes of it.
pub(super) trait Work: std::marker::Send {
    fn run(self: Box<Self>, writer: &mut Writer) -> BoxFuture<'_, ()>;
}

impl<T: Transaction> Work for Pending<T> {
    fn run(self: Box<Self>, writer: &mut Writer) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Self { change, reply } = *self;
            if !reply.is_closed() {
                let done = writer.change(&change, &reply).await;
                let _ = reply.send(done);
            }
        })
    }
}

/// Sends that share a transaction.
struct Batch {
    sends: Vec<Send>,
    /// Whether they may have been stored by a run before.
    may_be_stored: bool,
}

/// What came of an append.
struct Run {
    outcomes: Result<Vec<Outcome>, Error>,
    /// Whether what it found stored may be of an earlier run of the same batch, and so
    /// was published by nobody.
    may_be_older: bool,
}

/// What to run instead of a batch that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// One log is held: each alone.
    EachLog,
    /// One entry is bad: the half without it.
    Halves,
    Nothing,
}

/// A writer before it runs.
pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    pub(super) publish: Publish,
    pub(super) resolver: Resolver,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) closing: CancellationToken,
    /// The connection, where it is the writer's own.
    pub(super) conn: Option<Conn>,
    /// Set with every new connection: cursors may show that it is another database.
    pub(super) doubt: Arc<AtomicBool>,
    pub(super) unknown_commits: Arc<AtomicU64>,
}

impl Writer {
    /// Works until it is told to close and nothing waits any more.
    pub(super) async fn run(mut self) {
        let mut next = None;
        loop {
            if next.is_none() {
                // Closing first: it does not wait for a queue that never runs dry.
                next = tokio::select! {
                    biased;
                    () = self.closing.cancelled(), if !self.jobs.is_closed() => {
                        self.jobs.close();
                        continue;
                    }
                    job = self.jobs.recv() => job,
                };
            }
            match next.take() {
                Some(Job::Send(first)) => {
                    // Those that came with it are on their way into the queue.
                    yield_now().await;
                    let sends;
                    (sends, next) = self.gather(first);
                    self.send(sends).await;
                }
                Some(Job::Change(work)) => work.run(&mut self).await,
                None => return,
            }
        }
    }

    /// The sends that wait, and the job that ended them. A second entry of one request
    /// ends them too: the next batch finds it stored.
    fn gather(&mut self, first: Send) -> (Vec<Send>, Option<Job>) {
        let key = |send: &Send| {
            let Entry { log_id, sender, request, .. } = &send.entry;
            (*log_id, sender.clone(), request.clone())
        };
        let mut seen = HashSet::from([key(&first)]);
        let mut bytes = first.entry.payload.len();
        let mut batch = vec![first];
        let mut rest = None;
        while batch.len() < self.options.batch
            && bytes < BATCH_BYTES
            && let Ok(job) = self.jobs.try_recv()
        {
            match job {
                Job::Send(send) if seen.insert(key(&send)) => {
                    bytes += send.entry.payload.len();
                    batch.push(send);
                }
                other => {
                    rest = Some(other);
                    break;
                }
            }
        }
        // Nobody waits for it and it was not begun.
        batch.retain(|send| !send.reply.is_closed());
        batch.sort_by_key(|send| send.entry.log_id);
        (batch, rest)
    }

    /// Appends a batch and answers. What fails for a reason that one entry can have is halved
    /// until the bad entry fails alone; what waited too long for a log is run log by log.
    async fn send(&mut self, sends: Vec<Send>) {
        let mut batches = vec![Batch { sends, may_be_stored: false }];
        while let Some(Batch { sends, may_be_stored }) = batches.pop() {
            if sends.is_empty() {
                continue;
            }
            let entries: Vec<Entry> = sends.iter().map(|send| send.entry.clone()).collect();
            let waits = || sends.iter().any(|send| !send.reply.is_closed());
            let run = self.append(&entries, may_be_stored, waits).await;
            let error = match run.outcomes {
                Ok(outcomes) => {
                    self.publish(send::appended(&entries, &outcomes, run.may_be_older));
                    self.answer(sends, outcomes).await;
                    continue;
                }
                Err(error) => error,
            };
            let parts = match instead(&entries, &error) {
                Instead::EachLog => by_log(sends, &entries),
                Instead::Halves => halves(sends),
                Instead::Nothing => {
                    fail(sends, error);
                    continue;
                }
            };
            // What may have been stored before the batch was parted still may. The first
            // part is run first.
            let may_be_stored = run.may_be_older;
            batches.extend(parts.into_iter().rev().map(|sends| Batch { sends, may_be_stored }));
        }
    }

    async fn answer(&self, sends: Vec<Send>, outcomes: Vec<Outcome>) {
        for (send, outcome) in sends.into_iter().zip(outcomes) {
            let sent = self.sent(&send.entry, outcome).await;
            let _ = send.reply.send(sent);
        }
    }

    async fn sent(&self, entry: &Entry, outcome: Outcome) -> Result<Sent, Error> {
        match outcome.verdict {
            Verdict::Stored | Verdict::Repeated => Ok(Sent {
                message_id: MessageId { log_id: entry.log_id, seq: outcome.seq },
                time: outcome.time,
                epoch: outcome.epoch,
            }),
            Verdict::Reused => Err(Error::request_id_reused()),
            Verdict::NoLog => Err(Error::room_not_found()),
            Verdict::Closed => {
                if let Some((tenant_id, room_id)) = outcome.room {
                    self.resolver.forget(tenant_id, room_id).await;
                }
                Err(Error::room_not_found())
            }
            Verdict::NotAMember => Err(Error::not_a_member()),
            Verdict::Restricted => {
                let rule = "the room's rules let only owners and admins send";
                Err(Error::Refused(Reason::PostingRestricted, rule))
            }
        }
    }

    /// Runs the append until the database has answered.
    async fn append(
        &mut self,
        entries: &[Entry],
        may_be_stored: bool,
        waits: impl Fn() -> bool,
    ) -> Run {
        let mut attempts = Attempts::new(may_be_stored);
        loop {
            let outcomes = match self.connect().await {
                Ok(mut conn) => {
                    let now = self.clock.now();
                    let run = send::append(&mut conn, now, entries);
                    let run = self.in_time(run).await;
                    self.keep(conn, run, &mut attempts).await
                }
                Err(error) => Err(error),
            };
            match outcomes {
                Err(error)
                    if instead(entries, &error) != Instead::EachLog
                        && attempts.go_on(&error, &waits) =>
                {
                    attempts.pause().await;
                }
                outcomes => return Run { outcomes, may_be_older: attempts.interrupted },
            }
        }
    }

    /// Runs a change until the database has answered.
    async fn change<T: Transaction>(
        &mut self,
        change: &T,
        reply: &Reply<T::Done>,
    ) -> Result<T::Done, Error> {
        let mut attempts = Attempts::new(false);
        loop {
            let executed = match self.connect().await {
                Ok(mut conn) => {
                    let now = self.clock.now();
                    let run = async {
                        conn.begin().await?;
                        let executed = change.execute(&mut conn, now).await?;
                        conn.commit().await?;
                        Ok::<_, Error>(executed)
                    };
                    let run = self.in_time(run).await;
                    self.keep(conn, run, &mut attempts).await
                }
                Err(error) => Err(error),
            };
            match executed {
                Err(error) if attempts.go_on(&error, || !reply.is_closed()) => {
                    attempts.pause().await;
                }
                Err(error) => return Err(error),
                Ok(executed) => {
                    return Ok(self.tell(change.log(), executed, attempts.interrupted).await);
                }
            }
        }
    }

    /// Publishes what a change appended, also if an earlier run may have.
    async fn tell<D>(&self, log_id: LogId, executed: Executed<D>, interrupted: bool) -> D {
        let Executed { done, mut appended, closed } = executed;
        if appended.is_none() && interrupted {
            appended = tail(&self.db, log_id).await;
        }
        if let (true, Some(appended)) = (closed, &appended) {
            let (tenant_id, room_id) = (&appended.tenant_id, &appended.room_id);
            self.resolver.forget(tenant_id.clone(), room_id.clone()).await;
        }
        self.publish(appended.into_iter().collect());
        done
    }

    fn publish(&self, appended: Vec<Appended>) {
        if !appended.is_empty() {
            (self.publish)(appended);
        }
    }

    async fn in_time<T>(&self, run: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let deadline = self.options.deadline;
        timeout(deadline, run).await.unwrap_or_else(|_| Err(Error::late(deadline)))
    }

    /// Keeps the connection of a run if it is the writer's own and can be used again.
    async fn keep<T>(
        &mut self,
        mut conn: Conn,
        result: Result<T, Error>,
        attempts: &mut Attempts,
    ) -> Result<T, Error> {
        let fit = match &result {
            Ok(_) => true,
            Err(error) if lost(error) => {
                attempts.interrupted = true;
                self.unknown_commits.fetch_add(1, Ordering::Relaxed);
                false
            }
            Err(_) => conn.rollback().await.is_ok(),
        };
        if fit && matches!(conn, Conn::Postgres(_)) {
            self.conn = Some(conn);
        }
        result
    }

    async fn connect(&mut self) -> Result<Conn, Error> {
        if let Some(conn) = self.conn.take() {
            return Ok(conn);
        }
        // Whatever the server said, it was not about the change.
        self.in_time(self.connect_anew())
            .await
            .map_err(|error| Error::Store(StoreError::away(error)))
    }

    async fn connect_anew(&self) -> Result<Conn, Error> {
        let Db::Postgres(db) = &self.db else { return Ok(self.db.writer().await?) };
        let mut conn = db.connect(SETTINGS).await?;
        let marks = self.options.high_water.as_deref();
        epoch::check(&mut conn, marks, self.clock.now()).await?;
        self.doubt.store(true, Ordering::Relaxed);
        Ok(conn)
    }
}

/// What is worth running after a batch failed.
fn instead(entries: &[Entry], error: &Error) -> Instead {
    let Error::Store(error) = error else { return Instead::Nothing };
    let log = |entry: Option<&Entry>| entry.map(|entry| entry.log_id);
    match error.trouble() {
        Trouble::Stuck if log(entries.first()) != log(entries.last()) => Instead::EachLog,
        Trouble::Refused if entries.len() > 1 => Instead::Halves,
        _ => Instead::Nothing,
    }
}

fn by_log(mut sends: Vec<Send>, entries: &[Entry]) -> Vec<Vec<Send>> {
    let by_log = entries.chunk_by(|a, b| a.log_id == b.log_id);
    by_log.map(|of_log| sends.drain(..of_log.len()).collect()).collect()
}

fn halves(mut sends: Vec<Send>) -> Vec<Vec<Send>> {
    let second = sends.split_off(sends.len() / 2);
    vec![sends, second]
}

/// Answers every entry of a batch with its error.
fn fail(batch: Vec<Send>, error: Error) {
    let text = error.to_string();
    let mut first = Some(error);
    for send in batch {
        let error = first.take().unwrap_or_else(|| Error::Store(StoreError::away(text.as_str())));
        let _ = send.reply.send(Err(error));
    }
}

/// The end of a log, where a change that is found made must be.
async fn tail(db: &Db, log_id: LogId) -> Option<Appended> {
    let view = view::view(db, log_id, None, 0).await.ok()??.0;
    let events = read::events(db, log_id, view.head - TAIL + 1, view.head).await.ok()?;
    let View { tenant_id, room_id, epoch, .. } = view;
    let users = Vec::new();
    Some(Appended { tenant_id, log_id, room_id, epoch, events, users })
}
