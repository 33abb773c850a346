//! What becomes of the log of a deleted room: some time later it goes in chunks, as what is
//! pruned does. A row stays that says how many facts it had, so that nobody makes it again.

use parlance_db::Conn;
use parlance_types::{Micros, RoomKind, Seq};

use crate::facts::Source;
use crate::prune::{Plan, Pruning, forget_repeats};
use crate::{Applied, Error, FactBatch, Locked, room_id};

/// How soon a log is looked at again whose members were not let go of yet.
const SOON: Micros = 1_000_000;

/// How long the log of a live room is kept, in which nobody is any more.
const LIVE: Micros = 5 * 60 * 1_000_000;

/// A step of purging a closed log. Says when to go on; `None`: it is gone.
pub(crate) async fn step(
    pruning: &Pruning,
    log: &mut Locked<'_>,
    plan: &mut Plan,
    now: Micros,
) -> Result<Option<Micros>, Error> {
    let mut kept = Micros::try_from(pruning.deleted_retention.as_micros()).unwrap_or(Micros::MAX);
    if plan.retention > 0 {
        kept = kept.min(plan.retention);
    }
    if log.row.kind == RoomKind::Live as i16 {
        kept = kept.min(LIVE);
    }
    // Nothing was stored since it was closed.
    let due = log.row.head_time.saturating_add(kept);
    if due > now {
        return Ok(Some(due));
    }
    let head = log.row.head;
    if pruning.let_go(log, plan, head, Micros::MAX).await?
        || forget_repeats(log, plan, Micros::MAX).await?.is_some()
    {
        return Ok(Some(now));
    }
    let log_id = log.id;
    let peopled = "SELECT peopled FROM heads WHERE log_id = $1";
    let (peopled,): (bool,) = log.conn().query(peopled).bind(log_id.0).fetch_one().await?;
    if peopled {
        return Ok(Some(now + SOON));
    }
    for with in pruning.on_prune {
        with(log, Seq::MAX).await?;
    }
    end(log).await?;
    Ok(None)
}

/// Lets go of the log itself.
async fn end(log: &mut Locked<'_>) -> Result<(), Error> {
    let (log_id, row) = (log.id, log.row.clone());
    for delete in [
        // Of the last of its messages: those before went with them.
        "DELETE FROM gone WHERE log_id = $1",
        "DELETE FROM log_epochs WHERE log_id = $1",
        "DELETE FROM prunings WHERE log_id = $1",
        "DELETE FROM expiries WHERE log_id = $1",
        "DELETE FROM heads WHERE log_id = $1",
    ] {
        log.conn().query(delete).bind(log_id.0).execute().await?;
    }
    room_id::release(log.conn(), &row.tenant_id, &row.room_id, log_id).await?;
    let insert =
        "INSERT INTO purged (log_id, applied_membership, applied_room) VALUES ($1, $2, $3)";
    let insert = log.conn().query(insert).bind(log_id.0);
    insert.bind(row.applied_membership).bind(row.applied_room).execute().await?;
    Ok(())
}

/// What facts come to whose log was purged: they are counted, and nothing is stored, as in a
/// log that is closed. `None`: it was not.
pub(crate) async fn apply(conn: &mut Conn, batch: &FactBatch) -> Result<Option<Applied>, Error> {
    let select = "SELECT applied_membership, applied_room FROM purged WHERE log_id = $1";
    let found = conn.query(select).bind(batch.log_id.0).fetch_optional::<(i64, i64)>().await?;
    let Some((membership, room)) = found else { return Ok(None) };
    let before = match batch.source {
        Source::Membership => membership,
        Source::Room => room,
    };
    let (first, last) = (batch.facts.first(), batch.facts.last());
    if first.is_some_and(|first| first.version > before + 1) {
        return Err(Error::FactGap { applied: before });
    }
    let applied = last.map_or(before, |last| last.version.max(before));
    let update = match batch.source {
        Source::Membership => "UPDATE purged SET applied_membership = $2 WHERE log_id = $1",
        Source::Room => "UPDATE purged SET applied_room = $2 WHERE log_id = $1",
    };
    if applied > before {
        conn.query(update).bind(batch.log_id.0).bind(applied).execute().await?;
    }
    Ok(Some(Applied { applied, head: 0, closed: true }))
}
