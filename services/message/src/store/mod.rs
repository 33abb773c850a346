//! The logs in SQL.
//!
//! What changes a log goes through the queue of the log's writer (`writer`), which
//! appends messages in batches (`append`) and everything else alone (`change`,
//! `facts`). Marks and reads go to the database at once.

mod append;
mod change;
mod epoch;
mod facts;
mod lists;
mod marks;
mod read;
mod resolve;
mod sql;
mod trouble;
mod writer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parlance_db::{Db, read_db};
use parlance_types::{Clock, LogId, Micros, RequestId, RoomId, Seq, TenantId, UserId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::append::Entry;
use self::change::NamedEdit;
use self::resolve::Resolver;
use self::writer::{Change, Done, Job, Reply, Writer};
use crate::domain::{
    Deletion, Draft, Edit, Edited, EpochId, FactBatch, Marks, Message, Publish, Role, Sent,
    StoredEvent, View,
};
use crate::vital::vital;
use crate::{Error, codec};

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
}

impl Default for Options {
    fn default() -> Self {
        Self { writers: 4, queue: 1024, batch: 256, deadline: Duration::from_secs(10) }
    }
}

/// The logs of all rooms.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    options: Options,
    resolver: Resolver,
    /// The queue of each writer.
    writers: Vec<mpsc::Sender<Job>>,
    closing: CancellationToken,
    tasks: TaskTracker,
    /// Whether a cursor may begin an epoch: the database may be another since none did.
    doubt: Arc<AtomicBool>,
    unknown_commits: Arc<AtomicU64>,
}

/// What a fact batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub applied: i64,
    pub head: Seq,
    pub closed: bool,
}

/// Which messages a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The newest `limit` messages with a seq below.
    Before(Seq),
    /// The oldest `limit` messages with a seq above.
    After(Seq),
}

/// What a member has not read in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub log_id: LogId,
    pub room_id: RoomId,
    pub unread: i64,
    pub marked_unread: bool,
    pub read: Seq,
}

/// A member's unread count beside the one that the events give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recount {
    pub log_id: LogId,
    pub room_id: RoomId,
    /// What `unread` gives.
    pub reported: i64,
    /// What the events give.
    pub counted: i64,
}

/// A log, as one of its members sees it in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLog {
    pub unread: Unread,
    pub role: Role,
    pub last_message: Option<Message>,
    pub activity: Micros,
    pub head: Seq,
}

/// Where a walk through a user's logs stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Walk {
    /// The activity of the first log of the first page.
    pub began: Micros,
    /// Whether the walk goes up through logs that moved since it began.
    pub ascending: bool,
    /// Activity and log of the last entry.
    pub at: (Micros, String),
}

/// Where a log stands: what the periodic head check reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub log_id: LogId,
    pub head: Seq,
    pub epoch: EpochId,
}

/// What a log says of a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorCheck {
    /// It holds.
    Holds,
    /// History was rewound after it was given: only what is up to here still holds.
    Rewound { keep_through: Seq },
    /// Its epoch is not known here.
    UnknownEpoch,
}

impl Store {
    /// Opens the logs: begins a new epoch if the database is not the one that was
    /// written last, and starts the writers. `publish` hears of every commit, before the
    /// request is answered; of what may have been committed before a
    /// connection was lost it may hear again.
    pub async fn open(
        db: Db,
        clock: Arc<dyn Clock>,
        options: Options,
        publish: Publish,
    ) -> Result<Self, Error> {
        epoch::check_at_start(&db, clock.now()).await?;
        let resolver = Resolver::new(db.clone());
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let count = if matches!(db, Db::Sqlite(_)) { 1 } else { options.writers.max(1) };
        let mut writers = Vec::with_capacity(count);
        let unknown_commits = Arc::<AtomicU64>::default();
        let doubt = Arc::new(AtomicBool::new(true));
        for _ in 0..count {
            let (sender, jobs) = mpsc::channel(options.queue.max(1));
            writers.push(sender);
            let writer = Writer {
                db: db.clone(),
                clock: clock.clone(),
                options: options.clone(),
                publish: publish.clone(),
                resolver: resolver.clone(),
                jobs,
                closing: closing.clone(),
                conn: None,
                doubt: Arc::clone(&doubt),
                unknown_commits: Arc::clone(&unknown_commits),
            };
            tasks.spawn(vital("writer", writer.run()));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                db,
                clock,
                options,
                resolver,
                writers,
                closing,
                tasks,
                doubt,
                unknown_commits,
            }),
        })
    }

    /// Runs whose commit was unknown, so that they were run again.
    pub fn unknown_commits(&self) -> u64 {
        self.inner.unknown_commits.load(Ordering::Relaxed)
    }

    /// Lets everything queued finish, then stops the writers. What comes later is
    /// refused with `Draining`; reads and marks still work.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// How many reads the database is asked at once at most.
    pub fn read_connections(&self) -> u32 {
        read_db!(&self.inner.db, |pool| pool.options().get_max_connections())
    }

    /// The id of the present epoch.
    pub async fn epoch(&self) -> Result<EpochId, Error> {
        epoch::present(&self.inner.db).await
    }

    /// Begins a new epoch.
    pub async fn bump_epoch(&self, reason: &str) -> Result<EpochId, Error> {
        epoch::bump(&self.inner.db, self.inner.clock.now(), reason).await
    }

    /// The log of a room's latest life; `None` if the room never had one. It may be
    /// closed: a repeat of a request is answered there all the same. Remembered for a
    /// while; a log that turns out closed is looked up again.
    pub async fn resolve(
        &self,
        tenant_id: &TenantId,
        room_id: &RoomId,
    ) -> Result<Option<LogId>, Error> {
        self.inner.resolver.resolve(tenant_id, room_id).await
    }

    /// Appends a message. A repeat of its request gets the first reply.
    ///
    /// Fails with `RoomNotFound`, `NotAMember`, `PostingRestricted`, `RequestIdReused`;
    /// after `StoreTimeout` it may be stored or not.
    pub async fn send(&self, draft: Draft) -> Result<Sent, Error> {
        let Draft { log_id, sender, request_id, content, uncounted } = draft;
        let payload = codec::message_sent(sender.as_ref(), &content, uncounted);
        let entry = Entry {
            log_id,
            sender: sender.map(UserId::into_string).unwrap_or_default(),
            request_id: named(request_id),
            digest: codec::digest(&payload),
            counted: !uncounted,
            payload,
        };
        self.submit(log_id, |reply| Job::Send(writer::Send { entry, reply })).await
    }

    /// Replaces the content of a message. A repeat of its request gets the first reply.
    ///
    /// Fails with `MessageNotFound`, `RoomNotFound`, `NotAMember`, `NotTheSender`,
    /// `MessageDeleted`, `RequestIdReused`.
    pub async fn edit(&self, mut edit: Edit) -> Result<Edited, Error> {
        let log_id = edit.message_id.log_id;
        let request_id = named(edit.request_id.take());
        match self.change(log_id, Change::Edit(NamedEdit { edit, request_id })).await? {
            Done::Edited(edited) => Ok(edited),
            _ => unreachable!("an edit ends as an edit"),
        }
    }

    /// Deletes a message for everyone; deleting again gives the same place.
    ///
    /// Fails with `MessageNotFound`, `RoomNotFound`, `NotAMember`, `NotTheSender`.
    pub async fn delete(&self, deletion: Deletion) -> Result<Seq, Error> {
        let log_id = deletion.message_id.log_id;
        match self.change(log_id, Change::Delete(deletion)).await? {
            Done::Deleted(seq) => Ok(seq),
            _ => unreachable!("a deletion ends as a deletion"),
        }
    }

    /// Applies facts, all of them or none; those applied before are skipped.
    ///
    /// Fails with `FactGap`, `LogNotFound`, `RoomIdTaken`, `Invalid`.
    pub async fn apply(&self, batch: FactBatch) -> Result<Applied, Error> {
        let log_id = batch.log_id;
        match self.change(log_id, Change::Apply(batch)).await? {
            Done::Applied(applied) => Ok(applied),
            _ => unreachable!("facts end as facts"),
        }
    }

    /// What `viewer` may see of a log, and its head, in one statement. `None`: no such
    /// log. The epoch is the present one.
    pub async fn view(
        &self,
        log_id: LogId,
        viewer: Option<&UserId>,
    ) -> Result<Option<View>, Error> {
        let view = read::view(&self.inner.db, log_id, viewer).await?;
        if let Some(view) = view.as_ref().filter(|view| view.closed.is_some()) {
            self.inner.resolver.forget(view.tenant_id.clone(), view.room_id.clone()).await;
        }
        Ok(view)
    }

    /// Raises the read mark; clears the unread flag. What is read counts as delivered.
    ///
    /// Fails with `BeyondHead`, `NotAMember`, `RoomNotFound`, as all marks do.
    pub async fn mark_read(
        &self,
        log_id: LogId,
        user_id: &UserId,
        seq: Seq,
    ) -> Result<Marks, Error> {
        marks::read(&self.inner.db, log_id, user_id, Some(seq)).await
    }

    /// Raises the delivered mark.
    pub async fn mark_delivered(
        &self,
        log_id: LogId,
        user_id: &UserId,
        seq: Seq,
    ) -> Result<Marks, Error> {
        marks::delivered(&self.inner.db, log_id, user_id, seq).await
    }

    /// Raises the read mark to the head.
    pub async fn mark_all_read(&self, log_id: LogId, user_id: &UserId) -> Result<Marks, Error> {
        marks::read(&self.inner.db, log_id, user_id, None).await
    }

    /// Flags the room as unread, until the next mark or message of the member.
    pub async fn flag_unread(&self, log_id: LogId, user_id: &UserId) -> Result<(), Error> {
        marks::flag(&self.inner.db, log_id, user_id).await
    }

    /// Messages in ascending order, within `visible` (both ends included), as they read
    /// at its end.
    pub async fn messages(
        &self,
        log_id: LogId,
        range: Range,
        visible: (Seq, Seq),
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        read::messages(&self.inner.db, log_id, range, visible, limit).await
    }

    /// The events `from..=to` that are stored, in order.
    pub async fn events(
        &self,
        log_id: LogId,
        from: Seq,
        to: Seq,
    ) -> Result<Vec<StoredEvent>, Error> {
        read::events(&self.inner.db, log_id, from, to).await
    }

    /// Begins a new epoch because `epoch` was found rewound; nothing if it is not the
    /// present one any more. For what a node has read or stored itself: unlike the
    /// cursor of a client, that cannot be made up.
    pub async fn rewound(&self, epoch: &EpochId) -> Result<(), Error> {
        let reason = "a log that lost its end";
        epoch::leave(&self.inner.db, self.inner.clock.now(), epoch, reason).await
    }

    /// Whether a cursor of `epoch` at `seq` still holds. One above the head of its own
    /// epoch begins a new epoch: history was rewound unnoticed. Once per connection of this
    /// process to its database, since cursors can be made up and a running server is not
    /// rewound; the cursor is refused all the same.
    pub async fn check_cursor(
        &self,
        log_id: LogId,
        epoch: &EpochId,
        seq: Seq,
    ) -> Result<CursorCheck, Error> {
        if seq == 0 {
            return Ok(CursorCheck::Holds);
        }
        let Some(row) = read::cursor(&self.inner.db, log_id, epoch).await? else {
            return Ok(CursorCheck::UnknownEpoch);
        };
        match row.next {
            Some(next) if seq < next => Ok(CursorCheck::Holds),
            Some(next) => Ok(CursorCheck::Rewound { keep_through: next - 1 }),
            None if seq <= row.head => Ok(CursorCheck::Holds),
            None => {
                if row.epoch == row.present && self.inner.doubt.load(Ordering::Relaxed) {
                    let reason = "a cursor above the head";
                    epoch::leave(&self.inner.db, self.inner.clock.now(), epoch, reason).await?;
                    self.inner.doubt.store(false, Ordering::Relaxed);
                }
                Ok(CursorCheck::Rewound { keep_through: row.head })
            }
        }
    }

    /// Where logs stand, for those that exist, in no order. The epoch is the present one.
    pub async fn heads(&self, log_ids: &[LogId]) -> Result<Vec<Head>, Error> {
        read::heads(&self.inner.db, log_ids).await
    }

    /// How often each user's access was changed; 0 for users never seen.
    pub async fn user_heads(&self, users: &[(TenantId, UserId)]) -> Result<Vec<i64>, Error> {
        read::user_heads(&self.inner.db, users).await
    }

    /// The open logs a user is a member of, and the event that made them one.
    pub async fn logs_of(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
    ) -> Result<Vec<(LogId, RoomId, Seq)>, Error> {
        lists::logs_of(&self.inner.db, tenant_id, user_id).await
    }

    /// Unread counts of a user in every open log.
    pub async fn unread(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
    ) -> Result<Vec<Unread>, Error> {
        lists::unread(&self.inner.db, tenant_id, user_id).await
    }

    /// The same counts beside those of the events themselves, in one statement.
    pub async fn recount(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
    ) -> Result<Vec<Recount>, Error> {
        lists::recount(&self.inner.db, tenant_id, user_id).await
    }

    /// One page of a user's logs, latest activity first, and where to go on: down, then
    /// once more up through the logs that moved meanwhile. A log may come twice, none is
    /// missed. `skip_empty` leaves out logs without a message to show.
    pub async fn user_logs(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        walk: Option<Walk>,
        skip_empty: bool,
        limit: usize,
    ) -> Result<(Vec<UserLog>, Option<Walk>), Error> {
        lists::user_logs(&self.inner.db, tenant_id, user_id, walk, skip_empty, limit).await
    }

    async fn change(&self, log_id: LogId, change: Change) -> Result<Done, Error> {
        self.submit(log_id, |reply| Job::Change(Box::new(change), reply)).await
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
        let writers = &self.inner.writers;
        let shard = usize::try_from(hash.finish() % writers.len() as u64).unwrap_or(0);
        writers[shard].try_send(job(reply)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Draining,
        })?;
        match timeout(self.inner.options.deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::StoreTimeout),
        }
    }
}

/// The request id to store: the caller's, or one that no caller can send, so that the
/// writer can run the request again without storing it twice.
fn named(request_id: Option<RequestId>) -> String {
    request_id
        .map_or_else(|| format!("\u{1}{:032x}", rand::random::<u128>()), RequestId::into_string)
}
