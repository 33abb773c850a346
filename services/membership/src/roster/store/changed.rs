//! Rosters that the room service watches.

use parlance_types::{LogId, Micros, TenantId, UserId};
use uuid::Uuid;

use super::members;
use crate::Error;
use crate::roster::{Changed, State};
use crate::store::Store;

/// How many rosters are told of at once.
const ROSTERS: i64 = 100;

impl Store {
    /// Watched rosters in which somebody came or went that was not heard of.
    pub(crate) async fn changed(&self) -> Result<Vec<Changed>, Error> {
        let select = "SELECT log_id, changes, member_count FROM rosters
                      WHERE changes > heard AND NOT closed LIMIT $1";
        let found: Vec<(Uuid, i64, i64)> = self.db.read(select).bind(ROSTERS).fetch_all().await?;
        let changed = |(log_id, changes, member_count)| Changed {
            log_id: LogId(log_id),
            changes,
            member_count,
        };
        Ok(found.into_iter().map(changed).collect())
    }

    /// Those of the users who are members of an open roster, and since when.
    pub(crate) async fn joined(
        &self,
        tenant_id: &TenantId,
        log_id: LogId,
        user_ids: &[UserId],
    ) -> Result<Vec<(UserId, Micros)>, Error> {
        let open = "SELECT NOT closed FROM rosters WHERE log_id = $1 AND tenant_id = $2";
        let open = self.db.read(open).bind(log_id.0).bind(tenant_id.as_str());
        let open: Option<(bool,)> = open.fetch_optional().await?;
        if !open.is_some_and(|(open,)| open) {
            return Err(Error::LogNotFound);
        }
        let users: Vec<_> = user_ids.iter().collect();
        let rows = members(&mut self.db.reader().await?, log_id, &users).await?;
        let present = rows.into_iter().filter(|(_, row)| row.state == State::Present);
        Ok(present.map(|(user_id, row)| (user_id, row.joined)).collect())
    }

    /// Notes what was heard of. What happened meanwhile is not.
    pub(crate) async fn heard(&self, heard: &[Changed]) -> Result<(), Error> {
        for Changed { log_id, changes, .. } in heard {
            let note = "UPDATE rosters SET heard = $2
                        WHERE log_id = $1 AND heard < $2 AND changes >= $2";
            self.db.write(note).bind(log_id.0).bind(*changes).execute().await?;
        }
        Ok(())
    }
}
