//! What has expired, in SQL.

use parlance_db::Db;
use parlance_log::{Actor, Change, Error, Locked};
use parlance_types::{LogId, Micros, Seq, TenantId};
use uuid::Uuid;

use super::{Expiring, LOGS};
use crate::message::store::delete_expired;

/// Messages that one step deletes at most.
const CHUNK: i64 = 25;

/// Logs in which something has expired by `now`, each with nobody of its tenant.
pub(super) async fn due(db: &Db, now: Micros) -> Result<Vec<(Actor, LogId)>, Error> {
    let select = "SELECT h.tenant_id, h.log_id
                    FROM expiries x JOIN heads h ON h.log_id = x.log_id
                   WHERE x.due <= $1 ORDER BY x.due LIMIT $2";
    let limit = i64::try_from(LOGS).unwrap_or(i64::MAX);
    let logs: Vec<(String, Uuid)> = db.read(select).bind(now).bind(limit).fetch_all().await?;
    let log = |(tenant_id, log_id)| {
        (Actor { tenant_id: TenantId::new(tenant_id), user: None }, LogId(log_id))
    };
    Ok(logs.into_iter().map(log).collect())
}

impl Change for Expiring {
    /// Whether there is more to do at once.
    type Done = bool;

    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<bool, Error> {
        let log_id = log.id();
        if log.is_closed() {
            // Nobody reads it any more.
            let delete = "DELETE FROM expiries WHERE log_id = $1";
            log.conn().query(delete).bind(log_id.0).execute().await?;
            return Ok(false);
        }
        let now = log.now();
        for seq in expired(log, now).await? {
            match log.message(seq).await? {
                Some(message) if log.holds(seq) => {
                    delete_expired(log, &message, self.on_delete).await?;
                }
                _ => forget(log, seq).await?,
            }
        }
        let Some(due) = next(log).await? else {
            let delete = "DELETE FROM expiries WHERE log_id = $1";
            log.conn().query(delete).bind(log_id.0).execute().await?;
            return Ok(false);
        };
        let update = "UPDATE expiries SET due = $2 WHERE log_id = $1 AND due <> $2";
        log.conn().query(update).bind(log_id.0).bind(due).execute().await?;
        Ok(due <= now)
    }
}

/// The first messages of a log that have expired and are not deleted.
async fn expired(log: &mut Locked<'_>, now: Micros) -> Result<Vec<Seq>, Error> {
    let log_id = log.id();
    let select = "SELECT seq FROM events
                   WHERE log_id = $1 AND expire_time <= $2 AND deleted_seq IS NULL
                   ORDER BY expire_time, seq LIMIT $3";
    let select = log.conn().query(select).bind(log_id.0).bind(now).bind(CHUNK);
    let seqs: Vec<(Seq,)> = select.fetch_all().await?;
    Ok(seqs.into_iter().map(|(seq,)| seq).collect())
}

/// When the next message of a log expires, if any does.
async fn next(log: &mut Locked<'_>) -> Result<Option<Micros>, Error> {
    let log_id = log.id();
    let select = "SELECT expire_time FROM events
                   WHERE log_id = $1 AND expire_time IS NOT NULL AND deleted_seq IS NULL
                   ORDER BY expire_time LIMIT 1";
    let next: Option<(Micros,)> = log.conn().query(select).bind(log_id.0).fetch_optional().await?;
    Ok(next.map(|(time,)| time))
}

/// Leaves a message to the pruning, which has begun to let go of it: no event is about it.
async fn forget(log: &mut Locked<'_>, seq: Seq) -> Result<(), Error> {
    let log_id = log.id();
    let update = "UPDATE events SET expire_time = NULL WHERE log_id = $1 AND seq = $2";
    log.conn().query(update).bind(log_id.0).bind(seq).execute().await?;
    Ok(())
}
