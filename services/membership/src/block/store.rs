//! Blocks in SQL.

use parlance_types::{LogId, Micros, TenantId, UserId};

use super::{Blocked, Blocking};
use crate::Error;
use crate::roster::Refused;
use crate::store::blocks::{Block, Change, block_of, change_blocks, silent_blocks};
use crate::store::person::lock_person;
use crate::store::{Store, known_users};

impl Store {
    /// Blocks a user, or unblocks them, and tells the direct room of the two, and the blocking
    /// user's own log. What is so already has no effect. The logs that are to be driven.
    pub(crate) async fn block(&self, blocking: &Blocking) -> Result<Vec<LogId>, Error> {
        let Blocking { tenant_id, user_id, other, blocked } = blocking;
        let mut tx = self.db.begin().await?;
        let person = lock_person(&mut tx, tenant_id, user_id).await?;
        let person = person.ok_or_else(|| Refused::no_user(user_id))?;
        let before = block_of(&mut tx, tenant_id, user_id, other).await?;
        let mut after = Block { called: *blocked, ..before };
        if *blocked && !before.holds() {
            if known_users(&mut tx, tenant_id, &[other]).await?.is_empty() {
                return Err(Refused::no_user(other).into());
            }
            after.silent = silent_blocks(&mut tx, tenant_id).await?;
        }
        let change = Change { other: other.clone(), before, after };
        let (owner, now) = ((tenant_id, user_id), self.clock.now());
        let log_ids = change_blocks(&mut tx, owner, person, &[change], now).await?;
        tx.commit().await?;
        Ok(log_ids)
    }

    /// The first `limit` users above `after` whom a user has blocked by a call, by id.
    pub(crate) async fn blocked(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Blocked>, Error> {
        let select = "SELECT blocked_id, create_time FROM blocks
                      WHERE tenant_id = $1 AND user_id = $2 AND blocked_id > $3 AND called
                      ORDER BY blocked_id LIMIT $4";
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let select = select.bind(after.map_or("", UserId::as_str));
        let select = select.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let found: Vec<(String, Micros)> = select.fetch_all().await?;
        Ok(found.into_iter().map(|(user_id, since)| Blocked { user_id, since }).collect())
    }
}
