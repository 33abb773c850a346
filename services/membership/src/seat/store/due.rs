//! Live rooms that nobody came back to in time.

use parlance_db::StoreError;
use parlance_outbox::enqueue;
use parlance_types::{LogId, Micros};
use uuid::Uuid;

use crate::codec;
use crate::roster::MAX_WAIT;
use crate::store::Store;

/// How many rosters end in one transaction, which holds their locks for so long.
const STEP: i64 = 20;

/// How far clocks may be apart.
const APART: Micros = 60_000_000;

const DUE: &str = "SELECT log_id FROM rosters WHERE destroy_time <= $1
                   ORDER BY destroy_time LIMIT $2";

const AHEAD: &str = "SELECT log_id FROM rosters WHERE destroy_time > $1
                     ORDER BY destroy_time LIMIT $2";

impl Store {
    /// Closes some rosters that nobody is in and whose time is over, and returns their logs.
    ///
    /// One into which somebody comes meanwhile stays: it is decided under its lock.
    pub(crate) async fn close_due(&self) -> Result<Vec<LogId>, StoreError> {
        let now = self.clock.now();
        // Further ahead than any room waits: the clock that gave the time was.
        let ahead = now.saturating_add(MAX_WAIT + APART);
        let mut due = self.due(DUE, now).await?;
        if due.is_empty() {
            due = self.due(AHEAD, ahead).await?;
        }
        if due.is_empty() {
            return Ok(Vec::new());
        }
        due.sort_unstable();
        let mut tx = self.db.begin().await?;
        let mut closed = Vec::new();
        for log_id in due {
            let close = "UPDATE rosters SET closed = TRUE, peopled = FALSE, untold = TRUE,
                           destroy_time = NULL
                         WHERE log_id = $1 AND NOT closed AND member_count = 0
                           AND (destroy_time <= $2 OR destroy_time > $3)";
            let close = tx.query(close).bind(log_id.0).bind(now).bind(ahead);
            if close.execute().await? == 1 {
                enqueue(&mut tx, log_id, &[codec::closing(None)]).await?;
                closed.push(log_id);
            }
        }
        tx.commit().await?;
        Ok(closed)
    }

    /// Some rosters, the longest due first.
    async fn due(&self, select: &'static str, time: Micros) -> Result<Vec<LogId>, StoreError> {
        let found: Vec<(Uuid,)> = self.db.read(select).bind(time).bind(STEP).fetch_all().await?;
        Ok(found.into_iter().map(|(log_id,)| LogId(log_id)).collect())
    }
}
