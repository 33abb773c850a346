//! The writers: each owns a connection and the logs of a shard.
//!
//! Requests only wait in a writer's queue, so one that is cancelled leaves nothing
//! half done. A writer takes whatever waits when its connection is idle.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parlance_db::{Db, PostgresDb};
use parlance_types::{Clock, LogId, MessageId, Micros, Seq};
use sqlx::ConnectOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::append::{self, Entry, Outcome, Verdict};
use super::change::{self, NamedEdit};
use super::resolve::Resolver;
use super::sql::Conn;
use super::trouble::{Trouble, trouble, unreachable};
use super::{Applied, Options, epoch, facts, read};
use crate::Error;
use crate::domain::{Appended, Deletion, Edited, FactBatch, Publish, Sent, View};

/// How long a change that was never begun waits for a database that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the planner of a writer is told: probe by index, once and for all. Statistics
/// of a new database would lead it astray.
const SETTINGS: [(&str, &str); 9] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("statement_timeout", "5000"),
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
    Change(Box<Change>, Reply<Done>),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A message and who waits for it.
pub(super) struct Send {
    pub(super) entry: Entry,
    pub(super) reply: Reply<Sent>,
}

/// What goes into a log alone.
pub(super) enum Change {
    Edit(NamedEdit),
    Delete(Deletion),
    Apply(FactBatch),
}

/// What came of a change.
pub(super) enum Done {
    Edited(Edited),
    Deleted(Seq),
    Applied(Applied),
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
                    let batch;
                    (batch, next) = self.batch(first);
                    self.send(batch).await;
                }
                Some(Job::Change(change, reply)) => {
                    if !reply.is_closed() {
                        let done = self.change(&change, &reply).await;
                        let _ = reply.send(done);
                    }
                }
                None => return,
            }
        }
    }

    /// The sends that wait, and the job that ended them. A second entry of one request
    /// ends them too: the next batch finds it stored.
    fn batch(&mut self, first: Send) -> (Vec<Send>, Option<Job>) {
        let key = |send: &Send| {
            let Entry { log_id, sender, request_id, .. } = &send.entry;
            (*log_id, sender.clone(), request_id.clone())
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
    async fn send(&mut self, batch: Vec<Send>) {
        let mut batches = vec![(batch, false)];
        while let Some((batch, found)) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let entries: Vec<Entry> = batch.iter().map(|send| send.entry.clone()).collect();
            let waits = || batch.iter().any(|send| !send.reply.is_closed());
            let (outcomes, found) = self.append(&entries, found, waits).await;
            match outcomes {
                Ok(outcomes) => {
                    self.publish(append::appended(&entries, &outcomes, found));
                    for (send, outcome) in batch.into_iter().zip(outcomes) {
                        let _ = send.reply.send(self.sent(&send.entry, outcome).await);
                    }
                }
                Err(error) => {
                    let parts = parts(batch, &entries, &error).map_err(|batch| fail(batch, error));
                    // What may have been stored before the batch was parted still may.
                    batches.extend(parts.into_iter().flatten().rev().map(|part| (part, found)));
                }
            }
        }
    }

    async fn sent(&self, entry: &Entry, outcome: Outcome) -> Result<Sent, Error> {
        match outcome.verdict {
            Verdict::Stored | Verdict::Repeated => Ok(Sent {
                message_id: MessageId { log_id: entry.log_id, seq: outcome.seq },
                time: outcome.time,
                epoch: outcome.epoch,
            }),
            Verdict::Reused => Err(Error::RequestIdReused),
            Verdict::NoLog => Err(Error::RoomNotFound),
            Verdict::Closed => {
                if let Some((tenant_id, room_id)) = outcome.room {
                    self.resolver.forget(tenant_id, room_id).await;
                }
                Err(Error::RoomNotFound)
            }
            Verdict::NotAMember => Err(Error::NotAMember),
            Verdict::Restricted => Err(Error::PostingRestricted),
        }
    }

    /// Runs the append until the database has answered. Takes and says whether it may have
    /// been run before, so that what is found stored is this run's own.
    async fn append(
        &mut self,
        entries: &[Entry],
        interrupted: bool,
        waits: impl Fn() -> bool,
    ) -> (Result<Vec<Outcome>, Error>, bool) {
        let mut attempts = Attempts { interrupted, ..Attempts::new() };
        loop {
            let result = match self.connect().await {
                Ok(mut conn) => {
                    let now = self.clock.now();
                    let run = append::append(&mut conn, now, entries);
                    let run = timeout(self.options.deadline, run).await;
                    self.keep(conn, run, &mut attempts).await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if !is_parted(entries, &error) && attempts.go_on(&error, &waits) => {
                    attempts.pause().await;
                }
                result => return (result, attempts.interrupted),
            }
        }
    }

    /// Runs a change until the database has answered.
    async fn change(&mut self, change: &Change, reply: &Reply<Done>) -> Result<Done, Error> {
        let mut attempts = Attempts::new();
        loop {
            let result = match self.connect().await {
                Ok(mut conn) => {
                    let now = self.clock.now();
                    let run = timeout(self.options.deadline, change.run(&mut conn, now)).await;
                    self.keep(conn, run, &mut attempts).await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if attempts.go_on(&error, || !reply.is_closed()) => {
                    attempts.pause().await;
                }
                Err(error) => return Err(error),
                Ok((done, mut appended)) => {
                    if appended.is_none() && attempts.interrupted {
                        appended = tail(&self.db, change.log_id()).await;
                    }
                    if let (Done::Applied(Applied { closed: true, .. }), Some(appended)) =
                        (&done, &appended)
                    {
                        let (tenant_id, room_id) = (&appended.tenant_id, &appended.room_id);
                        self.resolver.forget(tenant_id.clone(), room_id.clone()).await;
                    }
                    self.publish(appended.into_iter().collect());
                    return Ok(done);
                }
            }
        }
    }

    fn publish(&self, appended: Vec<Appended>) {
        if !appended.is_empty() {
            (self.publish)(appended);
        }
    }

    /// Keeps the connection of a run if it can be used again.
    async fn keep<T>(
        &mut self,
        mut conn: Conn,
        run: Result<Result<T, Error>, tokio::time::error::Elapsed>,
        attempts: &mut Attempts,
    ) -> Result<T, Error> {
        let result = run.unwrap_or(Err(Error::StoreTimeout));
        let clean = match &result {
            Ok(_) => true,
            Err(error) if lost(error) => {
                attempts.interrupted = true;
                self.unknown_commits.fetch_add(1, Ordering::Relaxed);
                false
            }
            Err(_) => {
                let rollback = timeout(self.options.deadline, conn.rollback()).await;
                // Outside of a transaction SQLite refuses it: nothing is open.
                matches!(rollback, Ok(Ok(()) | Err(sqlx::Error::Database(_))))
            }
        };
        match conn {
            Conn::Postgres(_) if clean => self.conn = Some(conn),
            _ => conn.end(clean),
        }
        result
    }

    async fn connect(&mut self) -> Result<Conn, Error> {
        if let Some(conn) = self.conn.take() {
            return Ok(conn);
        }
        let conn = match &self.db {
            Db::Sqlite(_) => Conn::take(&self.db).await.map_err(Error::Store),
            Db::Postgres(db) => {
                let connect = self.connect_postgres(db);
                timeout(self.options.deadline, connect).await.unwrap_or(Err(Error::StoreTimeout))
            }
        };
        // Whatever the server said, it was not about the change.
        conn.map_err(unreachable)
    }

    async fn connect_postgres(&self, db: &PostgresDb) -> Result<Conn, Error> {
        let mut conn = db.options.clone().options(SETTINGS).connect().await?;
        let isolation = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED";
        sqlx::query(isolation).execute(&mut conn).await?;
        let mut conn = Conn::Postgres(Box::new(conn));
        epoch::check_witness(&mut conn, self.clock.now()).await?;
        self.doubt.store(true, Ordering::Relaxed);
        Ok(conn)
    }
}

/// Whether the logs of a batch are to be run one by one: one of them is held.
fn is_parted(entries: &[Entry], error: &Error) -> bool {
    let logs = |entry: Option<&Entry>| entry.map(|entry| entry.log_id);
    matches!(error, Error::Store(error) if trouble(error) == Trouble::Stuck)
        && logs(entries.first()) != logs(entries.last())
}

/// What to run instead of a batch that failed; the batch itself if nothing.
fn parts(
    mut batch: Vec<Send>,
    entries: &[Entry],
    error: &Error,
) -> Result<Vec<Vec<Send>>, Vec<Send>> {
    if is_parted(entries, error) {
        let by_log = entries.chunk_by(|a, b| a.log_id == b.log_id);
        let parts = by_log.map(|of_log| batch.drain(..of_log.len()).collect());
        return Ok(parts.collect());
    }
    match error {
        Error::Store(error) if batch.len() > 1 && trouble(error) == Trouble::Refused => {
            let second = batch.split_off(batch.len() / 2);
            Ok(vec![batch, second])
        }
        _ => Err(batch),
    }
}

/// Answers every entry of a batch with its error.
fn fail(batch: Vec<Send>, error: Error) {
    let text = error.to_string();
    let mut first = Some(error);
    for send in batch {
        let error = first.take().unwrap_or_else(|| unreachable(text.as_str()));
        let _ = send.reply.send(Err(error));
    }
}

/// The end of a log, where a change that is found made must be.
async fn tail(db: &Db, log_id: LogId) -> Option<Appended> {
    let view = read::view(db, log_id, None).await.ok()??;
    let events = read::events(db, log_id, view.head - TAIL + 1, view.head).await.ok()?;
    let View { tenant_id, room_id, epoch, .. } = view;
    let users = Vec::new();
    Some(Appended { tenant_id, log_id, room_id, epoch, events, users })
}

impl Change {
    const fn log_id(&self) -> LogId {
        match self {
            Self::Edit(edit) => edit.edit.message_id.log_id,
            Self::Delete(deletion) => deletion.message_id.log_id,
            Self::Apply(batch) => batch.log_id,
        }
    }

    async fn run(&self, conn: &mut Conn, now: Micros) -> Result<(Done, Option<Appended>), Error> {
        conn.begin().await?;
        let (done, appended) = match self {
            Self::Edit(edit) => {
                let (edited, appended) = change::edit(conn, now, edit).await?;
                (Done::Edited(edited), appended)
            }
            Self::Delete(deletion) => {
                let (seq, appended) = change::delete(conn, now, deletion).await?;
                (Done::Deleted(seq), appended)
            }
            Self::Apply(batch) => {
                let (applied, appended) = facts::apply(conn, now, batch).await?;
                (Done::Applied(applied), appended)
            }
        };
        conn.commit().await?;
        Ok((done, appended))
    }
}

/// The runs of one batch or change.
struct Attempts {
    began: Instant,
    pause: Duration,
    /// Whether a run was cut off, so that its commit is unknown.
    interrupted: bool,
}

impl Attempts {
    fn new() -> Self {
        Self { began: Instant::now(), pause: Duration::from_millis(20), interrupted: false }
    }

    /// Whether to run again. What may have been committed is run until it is known, as
    /// long as anybody wants to know.
    fn go_on(&self, error: &Error, waits: impl Fn() -> bool) -> bool {
        let patient = self.interrupted || self.began.elapsed() < PATIENCE;
        let passing = match error {
            Error::Store(error) => !matches!(trouble(error), Trouble::Refused | Trouble::Failed),
            Error::StoreTimeout => true,
            _ => false,
        };
        passing && patient && waits()
    }

    async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(1));
    }
}

fn lost(error: &Error) -> bool {
    match error {
        Error::Store(error) => trouble(error) == Trouble::Lost,
        Error::StoreTimeout => true,
        _ => false,
    }
}
