//! What a roster that was closed leaves behind: memberships, which end afterwards in bounded
//! steps, so that neither the closing nor the lists of its members' rooms cost with them.

use parlance_db::StoreError;
use parlance_types::LogId;
use uuid::Uuid;

use super::present;
use crate::roster::State;
use crate::store::Store;

/// How many closed rosters are looked for at once.
const ROSTERS: i64 = 100;

/// How many memberships end in one step.
const STEP: u32 = 1000;

/// What goes with them: devices in a live room, what waits for an answer, links, and that
/// somebody left.
const CLEAR: [&str; 4] = [
    "DELETE FROM seats WHERE log_id = $1 AND (user_id, resource) IN
         (SELECT s.user_id, s.resource FROM seats s WHERE s.log_id = $1 LIMIT $2)",
    "DELETE FROM pending WHERE log_id = $1 AND (kind, user_id) IN
         (SELECT p.kind, p.user_id FROM pending p WHERE p.log_id = $1 LIMIT $2)",
    "DELETE FROM invite_links WHERE log_id = $1 AND link_id IN
         (SELECT l.link_id FROM invite_links l WHERE l.log_id = $1 LIMIT $2)",
    "UPDATE members SET leave_time = NULL WHERE log_id = $1 AND user_id IN
         (SELECT m.user_id FROM members m
           WHERE m.log_id = $1 AND m.leave_time IS NOT NULL LIMIT $2)",
];

impl Store {
    /// Ends the memberships of rosters that were closed.
    pub(crate) async fn empty_closed(&self) -> Result<(), StoreError> {
        let select = "SELECT log_id FROM rosters WHERE closed AND peopled LIMIT $1";
        let closed: Vec<(Uuid,)> = self.db.read(select).bind(ROSTERS).fetch_all().await?;
        for (log_id,) in closed {
            while self.empty_some(LogId(log_id)).await? {}
        }
        Ok(())
    }

    /// Ends some memberships of a closed roster; whether there may be more.
    async fn empty_some(&self, log_id: LogId) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        // Of several replicas one at a time.
        let lock = "UPDATE rosters SET peopled = peopled WHERE log_id = $1";
        tx.query(lock).bind(log_id.0).execute().await?;
        let end = concat!(
            "UPDATE members SET state = $2, peer_id = NULL WHERE log_id = $1 AND user_id IN
                 (SELECT m.user_id FROM members m WHERE m.log_id = $1 AND m.",
            present!(),
            " LIMIT $3)"
        );
        let end = tx.query(end).bind(log_id.0).bind(State::Stayed as i16).bind(i64::from(STEP));
        let mut more = end.execute().await? == u64::from(STEP);
        for clear in CLEAR {
            if !more {
                let cleared = tx.query(clear).bind(log_id.0).bind(i64::from(STEP));
                more = cleared.execute().await? == u64::from(STEP);
            }
        }
        if !more {
            let note = "UPDATE rosters SET peopled = FALSE WHERE log_id = $1";
            tx.query(note).bind(log_id.0).execute().await?;
        }
        tx.commit().await?;
        Ok(more)
    }
}
