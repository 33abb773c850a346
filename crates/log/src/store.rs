//! The logs of all rooms, in a database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parlance_bus::HighWater;
use parlance_db::{Db, Joined, Query, Row};
use parlance_rpc::Tasks;
use parlance_types::{Clock, LogId, Micros, RoomId, Seq, TenantId, UserId};
use tokio::time::timeout;

use crate::change::Transaction;
use crate::closed::{self, Emptying};
use crate::prune::{self, OnPrune, Pruning};
use crate::room_id::Resolver;
use crate::write::Writers;
use crate::{
    Applied, Change, CursorCheck, Entry, EpochId, Error, FactBatch, Head, LogFacts, LogIdentity,
    Options, Person, Publish, RequestKey, Sent, StoredEvent, View, ViewRow, epoch, hidden, person,
    read, view,
};

/// How long the last beat may take: a database that is away is not waited for.
const LAST_BEAT: Duration = Duration::from_secs(2);

/// The logs of all rooms. Clones share them.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    resolver: Resolver,
    writers: Writers,
    high_water: Option<Arc<HighWater>>,
    deleted_retention: Duration,
    /// Whether a cursor has made it count since it last did by itself.
    asked: AtomicBool,
}

impl Store {
    /// Opens the logs: begins a new epoch if the database is not the one that was
    /// written last, and starts the writers among `tasks`. `publish` hears of every commit, before the
    /// request is answered; of what may have been committed before a
    /// connection was lost it may hear again.
    pub async fn open(
        db: Db,
        clock: Arc<dyn Clock>,
        options: Options,
        publish: Publish,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let high_water = options.high_water.clone();
        epoch::check_at_start(&db, high_water.as_deref(), clock.now()).await?;
        let resolver = Resolver::new(db.clone());
        let writers = Writers::start(&db, &clock, &options, &publish, &resolver, tasks);
        let (asked, deleted_retention) = (AtomicBool::new(false), options.deleted_retention);
        let inner = Inner { db, clock, resolver, writers, high_water, deleted_retention, asked };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The time.
    pub fn now(&self) -> Micros {
        self.inner.clock.now()
    }

    /// The database, for what nouns read beside the logs.
    pub fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Runs whose commit was unknown, so that they were run again.
    pub fn unknown_commits(&self) -> u64 {
        self.inner.writers.unknown_commits()
    }

    /// How many messages and changes wait to be written.
    pub fn waiting(&self) -> usize {
        self.inner.writers.waiting()
    }

    /// Lets everything queued finish, then stops the writers. What comes later is
    /// refused with DRAINING; reads still work.
    pub async fn close(&self) {
        self.inner.writers.close().await;
        // A backup that was made before and is put back while nobody writes is noticed.
        match timeout(LAST_BEAT, self.beat()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "the last count is not remembered");
            }
            Err(_) => tracing::debug!("the last count is not remembered in time"),
        }
    }

    /// Whether something outside of the database remembers how far it has counted.
    pub fn has_high_water(&self) -> bool {
        self.inner.high_water.is_some()
    }

    /// Counts the database on, and begins a new epoch if it has counted further before: an
    /// older copy was put back. To be called every few seconds: a copy that is younger than
    /// the last call is not told from what it replaces.
    pub async fn beat(&self) -> Result<(), Error> {
        self.inner.asked.store(false, Ordering::Relaxed);
        self.count().await
    }

    async fn count(&self) -> Result<(), Error> {
        let Some(marks) = &self.inner.high_water else { return Ok(()) };
        let mut conn = self.inner.db.writer().await?;
        epoch::beat(&mut conn, marks, self.inner.clock.now()).await
    }

    /// Appends a message. A repeat of its request gets the first reply.
    ///
    /// Refused with ROOM_NOT_FOUND, NOT_A_MEMBER, POSTING_RESTRICTED, REQUEST_ID_REUSED;
    /// after a timeout it may be stored or not.
    pub async fn append(&self, entry: Entry) -> Result<Sent, Error> {
        self.inner.writers.append(entry).await
    }

    /// Queues a message, now; gives what [`append`](Self::append) does. Of one caller and log
    /// what was queued first is appended first.
    pub fn queue(&self, entry: Entry) -> impl Future<Output = Result<Sent, Error>> + Send + use<> {
        self.inner.writers.append(entry)
    }

    /// Runs a change under the lock of its log. After a timeout it may be made or not.
    pub async fn run<C: Change>(&self, change: C) -> Result<C::Done, Error> {
        self.inner.writers.run(change).await
    }

    /// Runs what shares its transaction with nothing. After a timeout it may be done or not.
    pub(crate) async fn run_alone<T: Transaction>(&self, alone: T) -> Result<T::Done, Error> {
        self.inner.writers.run(alone).await
    }

    /// Applies facts, all of them or none; those applied before are skipped.
    ///
    /// Fails with `FactGap` and `Invalid`; refused with LOG_NOT_FOUND, ROOM_ID_TAKEN.
    pub async fn apply(&self, batch: FactBatch) -> Result<Applied, Error> {
        let own = match &batch.identity {
            Some(LogIdentity::Own(user_id)) => Some((batch.tenant_id.clone(), user_id.clone())),
            _ => None,
        };
        let applied = self.inner.writers.run(batch).await?;
        if let Some((tenant_id, user_id)) = own {
            // Of a repeat, too: the first one may not have come to it.
            person::spread(&self.inner.db, &tenant_id, &user_id).await?;
        }
        Ok(applied)
    }

    /// Finishes what [`apply`](Self::apply) did not of what was said of users. To be called
    /// every few seconds.
    pub async fn spread(&self) -> Result<(), Error> {
        for (tenant_id, user_id) in person::unspread(&self.inner.db).await? {
            person::spread(&self.inner.db, &tenant_id, &user_id).await?;
        }
        Ok(())
    }

    /// What was said last of a user.
    pub async fn person(&self, tenant_id: &TenantId, user_id: &UserId) -> Result<Person, Error> {
        person::person(&self.inner.db, tenant_id, user_id).await
    }

    /// Ends the memberships of logs that were closed.
    pub async fn empty_closed(&self) -> Result<(), Error> {
        for (tenant_id, log_id) in closed::peopled(&self.inner.db).await? {
            let mut after = Some(String::new());
            while let Some(from) = after {
                let step = Emptying { tenant_id: tenant_id.clone(), log_id, after: from };
                after = self.inner.writers.run(step).await?;
            }
        }
        Ok(())
    }

    /// Lets go of what is older than its log keeps it, of the rows of what was cleared, and of
    /// logs that were closed long ago. To be called every few seconds.
    pub async fn prune(&self, on_prune: OnPrune) -> Result<(), Error> {
        let mut failed = None;
        for _ in 0..prune::STEPS {
            let due = prune::due(&self.inner.db, self.inner.clock.now()).await?;
            let all = due.len() < prune::LOGS;
            for (tenant_id, log_id) in due {
                // One log that fails holds up no other.
                if let Err(error) = self.prune_log(tenant_id, log_id, on_prune).await {
                    failed.get_or_insert(error);
                }
            }
            if all || failed.is_some() {
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn prune_log(
        &self,
        tenant_id: TenantId,
        log_id: LogId,
        on_prune: OnPrune,
    ) -> Result<(), Error> {
        let deleted_retention = self.inner.deleted_retention;
        for _ in 0..prune::STEPS {
            let tenant_id = tenant_id.clone();
            let step = Pruning { tenant_id, log_id, on_prune, deleted_retention };
            if !self.inner.writers.run(step).await? {
                break;
            }
        }
        Ok(())
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

    /// The logs of the latest lives of those of the rooms that had one.
    pub async fn resolve_all(
        &self,
        tenant_id: &TenantId,
        room_ids: &[RoomId],
    ) -> Result<Vec<LogId>, Error> {
        self.inner.resolver.resolve_all(tenant_id, room_ids).await
    }

    /// What `viewer` may see of a log, and its head, in one statement. `None`: no such
    /// log.
    pub async fn view(
        &self,
        log_id: LogId,
        viewer: Option<&UserId>,
    ) -> Result<Option<View>, Error> {
        Ok(self.view_at(log_id, viewer, 0).await?.map(|(view, _)| view))
    }

    /// The same, with the time of the event at a place, if it is stored.
    pub async fn view_at(
        &self,
        log_id: LogId,
        viewer: Option<&UserId>,
        at: Seq,
    ) -> Result<Option<(View, Option<Micros>)>, Error> {
        let mut found = view::view(&self.inner.db, log_id, viewer, at, self.now()).await?;
        self.look_closer(found.as_mut().map(|(view, _)| view), viewer).await?;
        Ok(found)
    }

    /// What `viewer` may see of a log, and the rows that a statement of [`crate::with_view!`]
    /// reads of it, in one snapshot. `bind` gives the select of the rows what it binds itself.
    pub async fn view_with<R>(
        &self,
        log_id: LogId,
        viewer: Option<&UserId>,
        select: &'static str,
        bind: impl FnOnce(Query<'_>) -> Query<'_>,
    ) -> Result<Option<(View, Vec<R>)>, Error>
    where
        Joined<Option<ViewRow>, Option<R>>: Row,
    {
        let now = self.now();
        let found = view::view_with(&self.inner.db, log_id, viewer, now, select, bind);
        let mut found = found.await?;
        self.look_closer(found.as_mut().map(|(view, _)| view), viewer).await?;
        Ok(found)
    }

    /// What few views need: a log that is closed is looked up again, and whom the viewer blocked
    /// and what they hid is read.
    async fn look_closer(
        &self,
        view: Option<&mut View>,
        viewer: Option<&UserId>,
    ) -> Result<(), Error> {
        let Some(view) = view else { return Ok(()) };
        if view.closed.is_some() {
            self.inner.resolver.forget(view.tenant_id.clone(), view.room_id.clone()).await;
        }
        let has_blocks = view.member.is_some_and(|member| member.has_blocks);
        if let (true, Some(viewer)) = (has_blocks, viewer) {
            view.blocked = person::blocked(&self.inner.db, &view.tenant_id, viewer).await?;
        }
        if let (Some(member), Some(viewer)) = (view.member.filter(|it| it.has_hidden), viewer) {
            view.hidden = hidden::hidden(&self.inner.db, view.log_id, viewer, &member).await?;
        }
        Ok(())
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

    /// Whether a request of a sender, or of the system, is stored.
    pub async fn has_request(
        &self,
        log_id: LogId,
        sender: Option<&UserId>,
        request: &RequestKey,
    ) -> Result<bool, Error> {
        read::has_request(&self.inner.db, log_id, sender, request).await
    }

    /// Where logs stand, for those that exist, in no order.
    pub async fn heads(&self, log_ids: &[LogId]) -> Result<Vec<Head>, Error> {
        read::heads(&self.inner.db, log_ids).await
    }

    /// How many facts each log has, up to `limit` logs by id after `after`.
    pub async fn facts(&self, after: LogId, limit: i64) -> Result<Vec<LogFacts>, Error> {
        read::facts(&self.inner.db, after, limit).await
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
        read::logs_of(&self.inner.db, tenant_id, user_id).await
    }

    /// The id of the present epoch.
    pub async fn epoch(&self) -> Result<EpochId, Error> {
        epoch::present(&self.inner.db).await
    }

    /// Begins a new epoch.
    pub async fn bump_epoch(&self, reason: &str) -> Result<EpochId, Error> {
        epoch::bump(&self.inner.db, self.inner.clock.now(), reason).await
    }

    /// Begins a new epoch because `epoch` was found rewound; nothing if it is not the
    /// present one any more. For what a node has read or stored itself: unlike the
    /// cursor of a client, that cannot be made up.
    pub async fn rewound(&self, epoch: &EpochId) -> Result<(), Error> {
        let reason = "a log that lost its end";
        epoch::leave(&self.inner.db, self.inner.clock.now(), epoch, reason).await
    }

    /// Whether a cursor of `epoch` at `seq` still holds. One above the head of the present
    /// epoch is made up, or history was rewound unnoticed: which of the two, it cannot show.
    /// It is refused, and lets the database be compared with what is remembered outside of it,
    /// once between two beats; only that begins a new epoch, for everybody.
    ///
    /// A log at 7 whose epoch `b` began at 5, after it was rewound to 4:
    ///
    /// ```text
    /// events   1 2 3 4 | 5 6 7
    /// epoch    a a a a | b b b
    /// cursor   a:4 holds    a:6 rewound, keep 4    b:6 holds    b:9 rewound, keep 7
    /// ```
    ///
    /// `other`: the event at `seq` is another than the one that the cursor was given for.
    /// History was rewound within the epoch, then: what lies before the epoch's first event
    /// still holds, for the epoch had begun when the backup was made.
    pub async fn check_cursor(
        &self,
        log_id: LogId,
        epoch: &EpochId,
        seq: Seq,
        other: bool,
    ) -> Result<CursorCheck, Error> {
        if seq == 0 {
            return Ok(CursorCheck::Holds);
        }
        let Some(row) = epoch::cursor(&self.inner.db, log_id, epoch).await? else {
            return Ok(CursorCheck::UnknownEpoch);
        };
        match row.next {
            _ if other && seq <= row.head => {
                let before = row.first.map_or(0, |first| first - 1);
                let keep_through = before.min(seq - 1).min(row.next.map_or(seq, |next| next - 1));
                Ok(CursorCheck::Rewound { keep_through })
            }
            Some(next) if seq < next => Ok(CursorCheck::Holds),
            Some(next) => Ok(CursorCheck::Rewound { keep_through: next - 1 }),
            None if seq <= row.head => Ok(CursorCheck::Holds),
            None => {
                let present = row.epoch == row.present;
                if present
                    && !self.inner.asked.swap(true, Ordering::Relaxed)
                    && let Err(error) = self.count().await
                {
                    // The beats go on asking, and tell of it.
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "a cursor above the head cannot be verified");
                }
                Ok(CursorCheck::Rewound { keep_through: row.head })
            }
        }
    }
}
