//! How a log lets go of its beginning: of what was cleared for all, and of what is older than
//! the log keeps events.
//!
//! `first_seq` of the head says what is left, at once and for everybody. Rows follow in
//! chunks, each of which costs the same however long the log is:
//!
//! ```text
//! seq     1 ... 20     21 ... 40            41 ... 90        91 ... 120
//!         no rows      repeats only         rows to go       what is left
//!        gone_seq ^   pruned_seq ^          first_seq - 1 ^
//! ```
//!
//! A request may be repeated for seven days after it was sent: its row stays so long, without
//! its content, and only the look for the repeat finds it.

use std::time::Duration;

use futures::future::BoxFuture;
use parlance_db::{Conn, Db};
use parlance_types::{LogId, Micros, Seq, TenantId, UserId};
use uuid::Uuid;

use crate::change::{Executed, Transaction};
use crate::head::LEVELS;
use crate::kind::PRUNED;
use crate::write::{Party, Who};
use crate::{Body, Error, Locked, NewEvent, RequestKey, purge};

/// Events that one step takes on at most.
const CHUNK: Seq = 500;

/// How many logs are looked for at once.
pub(crate) const LOGS: usize = 100;

/// Steps in one log before others have their turn.
pub(crate) const STEPS: usize = 20;

/// How long a request is recognised from when it was sent, though its event is gone.
const REPEATS: Micros = 7 * 24 * 3600 * 1_000_000;

/// A log that keeps events for a time is looked at no more often than this.
const PAUSE: Micros = 10_000_000;

/// What goes with events that are pruned: each is run with the first seq that is left, in the
/// transaction that lets go of those before, and under the lock of the log. What it has to do
/// it must bound itself.
pub type OnPrune =
    &'static [for<'a> fn(&'a mut Locked<'_>, Seq) -> BoxFuture<'a, Result<(), Error>>];

/// Logs in which there is something to let go of at `now`.
pub(crate) async fn due(db: &Db, now: Micros) -> Result<Vec<(TenantId, LogId)>, Error> {
    let select = "SELECT h.tenant_id, h.log_id
                    FROM prunings p JOIN heads h ON h.log_id = p.log_id
                   WHERE p.due <= $1 ORDER BY p.due LIMIT $2";
    let limit = i64::try_from(LOGS).unwrap_or(i64::MAX);
    let logs: Vec<(String, Uuid)> = db.read(select).bind(now).bind(limit).fetch_all().await?;
    let log = |(tenant_id, log_id)| (TenantId::new(tenant_id), LogId(log_id));
    Ok(logs.into_iter().map(log).collect())
}

/// A step of letting go in one log.
#[derive(Debug)]
pub(crate) struct Pruning {
    pub(crate) tenant_id: TenantId,
    pub(crate) log_id: LogId,
    pub(crate) on_prune: OnPrune,
    /// How long the log of a deleted room is kept.
    pub(crate) deleted_retention: Duration,
}

parlance_db::row! {
    /// What is to be let go of in a log, and how far that is.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Plan {
        pub(crate) due: Micros,
        /// How long events are kept; 0: for ever.
        pub(crate) retention: Micros,
        pub(crate) pruned_seq: Seq,
        pub(crate) gone_seq: Seq,
    }
}

impl Transaction for Pruning {
    /// Whether there is more to do at once.
    type Done = bool;

    /// It is as much work as a step may be.
    const SHARES: bool = false;

    fn log(&self) -> LogId {
        self.log_id
    }

    fn who(&self) -> Who {
        Who { tenant_id: self.tenant_id.clone(), party: Party::Suite }
    }

    async fn execute(&self, conn: &mut Conn, now: Micros) -> Result<Executed<bool>, Error> {
        let more = match Locked::lock(conn, self.log_id, None, now).await? {
            Some(mut log) => self.step(&mut log, now).await?,
            None => false,
        };
        Ok(Executed { done: Ok(more), appended: None, closed: false })
    }
}

impl Pruning {
    async fn step(&self, log: &mut Locked<'_>, now: Micros) -> Result<bool, Error> {
        let select = "SELECT due, retention, pruned_seq, gone_seq FROM prunings WHERE log_id = $1";
        let log_id = log.id;
        let plan = log.conn().query(select).bind(log_id.0).fetch_optional::<Plan>().await?;
        let Some(mut plan) = plan.filter(|plan| plan.due <= now) else { return Ok(false) };
        let due = if log.row.closed_seq.is_some() {
            let Some(due) = purge::step(self, log, &mut plan, now).await? else {
                return Ok(false);
            };
            Some(due)
        } else {
            self.prune(log, &mut plan, now).await?
        };
        let Some(due) = due else {
            let delete = "DELETE FROM prunings WHERE log_id = $1";
            log.conn().query(delete).bind(log_id.0).execute().await?;
            return Ok(false);
        };
        let update =
            "UPDATE prunings SET due = $2, pruned_seq = $3, gone_seq = $4 WHERE log_id = $1";
        let update = log.conn().query(update).bind(log_id.0).bind(due);
        update.bind(plan.pruned_seq).bind(plan.gone_seq).execute().await?;
        Ok(due <= now)
    }

    /// Lets go of a chunk of what is older than the log keeps it, and of the rows of what was
    /// cleared. Says when to look again; `None`: there is nothing to come.
    async fn prune(
        &self,
        log: &mut Locked<'_>,
        plan: &mut Plan,
        now: Micros,
    ) -> Result<Option<Micros>, Error> {
        let older = plan.retention > 0 && move_up(log, now - plan.retention).await?;
        let through = log.row.first_seq - 1;
        let rows = self.let_go(log, plan, through, now - REPEATS).await?;
        let repeat = forget_repeats(log, plan, now - REPEATS).await?;
        if older || rows {
            return Ok(Some(now));
        }
        let repeat = repeat.map(|time| (time + REPEATS).max(now));
        if plan.retention == 0 {
            return Ok(repeat);
        }
        let first = log.row.first_seq;
        let select = "SELECT time FROM events WHERE log_id = $1 AND seq = $2";
        let log_id = log.id;
        let first = log.conn().query(select).bind(log_id.0).bind(first);
        let first = first.fetch_optional::<(Micros,)>().await?.map_or(now, |(time,)| time);
        // What is sent from now on is not younger.
        let next = (first + plan.retention).max(now + PAUSE.min(plan.retention));
        Ok(Some(repeat.map_or(next, |repeat| repeat.min(next))))
    }

    /// Lets go of a chunk of the rows up to `through`; those of requests that were sent after
    /// `repeats` lose their content. Says whether there are more.
    pub(crate) async fn let_go(
        &self,
        log: &mut Locked<'_>,
        plan: &mut Plan,
        through: Seq,
        repeats: Micros,
    ) -> Result<bool, Error> {
        let (log_id, after) = (log.id, plan.pruned_seq);
        let to = through.min(after + CHUNK);
        if to <= after {
            return Ok(false);
        }
        let ord = ord_at(log, to).await?;
        // The ids that callers give begin with no control character.
        let blank =
            "UPDATE events SET kind = $4, payload = $5, target_seq = NULL, content_seq = NULL,
                             reaction_counts = NULL, expire_time = NULL
                      WHERE log_id = $1 AND seq > $2 AND seq <= $3
                        AND request_id >= ' ' AND time > $6";
        let blank = log.conn().query(blank).bind(log_id.0).bind(after).bind(to).bind(PRUNED);
        blank.bind(Vec::<u8>::new()).bind(repeats).execute().await?;
        let delete = "DELETE FROM events
                       WHERE log_id = $1 AND seq > $2 AND seq <= $3 AND kind <> $4";
        let delete = log.conn().query(delete).bind(log_id.0).bind(after).bind(to).bind(PRUNED);
        delete.execute().await?;
        if log.row.deleted > 0 {
            discounted(log, ord + 1).await?;
        }
        for with in self.on_prune {
            with(log, to + 1).await?;
        }
        plan.pruned_seq = to;
        Ok(to < through)
    }
}

/// Moves the beginning of the log up by a chunk of what was stored before `before`. Says
/// whether there is more.
async fn move_up(log: &mut Locked<'_>, before: Micros) -> Result<bool, Error> {
    let (log_id, first) = (log.id, log.row.first_seq);
    let last = first + CHUNK - 1;
    // Times do not fall.
    let select = "SELECT seq, ord FROM events
                   WHERE log_id = $1 AND seq >= $2 AND seq <= $3 AND time < $4
                   ORDER BY seq DESC LIMIT 1";
    let select = log.conn().query(select).bind(log_id.0).bind(first).bind(last).bind(before);
    let Some((seq, ord)) = select.fetch_optional::<(Seq, i64)>().await? else { return Ok(false) };
    begin_at(log, seq + 1, ord + 1).await?;
    Ok(seq == last)
}

/// Says where the log begins from now on.
async fn begin_at(log: &mut Locked<'_>, first_seq: Seq, first_ord: i64) -> Result<(), Error> {
    let log_id = log.id;
    let update = "UPDATE heads SET first_seq = $2, first_ord = $3 WHERE log_id = $1";
    let update = log.conn().query(update).bind(log_id.0).bind(first_seq).bind(first_ord);
    update.execute().await?;
    log.row.first_seq = first_seq;
    Ok(())
}

/// The countable messages up to an event that is stored.
async fn ord_at(log: &mut Locked<'_>, seq: Seq) -> Result<i64, Error> {
    let log_id = log.id;
    let select = "SELECT ord FROM events WHERE log_id = $1 AND seq = $2";
    let (ord,) = log.conn().query(select).bind(log_id.0).bind(seq).fetch_one().await?;
    Ok(ord)
}

/// Lets go of the buckets of deleted messages that lie before the countable message `first`:
/// those of a chunk before it, since the others are gone.
async fn discounted(log: &mut Locked<'_>, first: i64) -> Result<(), Error> {
    let log_id = log.id;
    let delete =
        "DELETE FROM gone WHERE log_id = $1 AND level = $2 AND bucket >= $3 AND bucket < $4";
    for level in LEVELS {
        let (from, to) = ((first - 1 - CHUNK).max(0) >> (5 * level), first >> (5 * level));
        let delete = log.conn().query(delete).bind(log_id.0).bind(level);
        delete.bind(from).bind(to).execute().await?;
    }
    Ok(())
}

/// Lets go of a chunk of the rows that only repeats could find, of requests that were sent up
/// to `before`. Gives the time of the oldest that is left.
pub(crate) async fn forget_repeats(
    log: &mut Locked<'_>,
    plan: &mut Plan,
    before: Micros,
) -> Result<Option<Micros>, Error> {
    let log_id = log.id;
    let select = "SELECT seq, time FROM events
                   WHERE log_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT 1";
    let delete = "DELETE FROM events
                   WHERE log_id = $1 AND seq >= $2 AND seq < $3 AND seq <= $4 AND time <= $5";
    let oldest = log.conn().query(select).bind(log_id.0);
    let oldest = oldest.bind(plan.gone_seq).bind(plan.pruned_seq).fetch_optional().await?;
    let Some((seq, time)): Option<(Seq, Micros)> = oldest else {
        plan.gone_seq = plan.pruned_seq;
        return Ok(None);
    };
    plan.gone_seq = seq - 1;
    if time <= before {
        let delete = log.conn().query(delete).bind(log_id.0).bind(seq).bind(seq + CHUNK);
        delete.bind(plan.pruned_seq).bind(before).execute().await?;
    }
    // Of one that is gone by now the next look finds what follows it.
    Ok(Some(time))
}

/// Has the log looked at soon, from where it begins on.
pub(crate) async fn schedule(log: &mut Locked<'_>) -> Result<(), Error> {
    let (log_id, now, gone) = (log.id, log.now(), log.row.first_seq - 1);
    let insert = "INSERT INTO prunings (log_id, due, retention, pruned_seq, gone_seq)
                  VALUES ($1, $2, 0, $3, $3)
                  ON CONFLICT (log_id) DO UPDATE SET due = excluded.due";
    let insert = log.conn().query(insert).bind(log_id.0).bind(now).bind(gone);
    insert.execute().await?;
    Ok(())
}

/// Says how long the log keeps events from now on; 0: for ever.
pub(crate) async fn keep(log: &mut Locked<'_>, retention: Micros) -> Result<(), Error> {
    let (log_id, now) = (log.id, log.now());
    if retention > 0 {
        schedule(log).await?;
    }
    let update =
        "UPDATE prunings SET retention = $2, due = $3 WHERE log_id = $1 AND retention <> $2";
    let update = log.conn().query(update).bind(log_id.0).bind(retention).bind(now);
    update.execute().await?;
    Ok(())
}

impl Locked<'_> {
    /// Clears the log for everybody up to `through`, which it holds, or up to its head: appends
    /// the event that says so, `body`, and gives its place and that of the first event left.
    pub async fn clear(
        &mut self,
        actor: Option<&UserId>,
        request: &RequestKey,
        digest: [u8; 32],
        through: Option<Seq>,
        body: impl FnOnce(Seq) -> Body,
    ) -> Result<(Seq, Seq), Error> {
        schedule(self).await?;
        let through = through.unwrap_or(self.row.head);
        let ord =
            if through == self.row.head { self.row.ord } else { ord_at(self, through).await? };
        begin_at(self, through + 1, ord + 1).await?;
        let event = NewEvent::clearing(actor, body(through), through + 1);
        let (seq, _) = self.append(event.requested(request, digest)).await?;
        Ok((seq, through + 1))
    }
}
