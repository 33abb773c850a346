//! Blocks in SQL.

use parlance_db::{Conn, StoreError};
use parlance_outbox::enqueue_silent;
use parlance_types::{LogId, Micros, TenantId, UserId};

use super::{Blocked, Blocking};
use crate::roster::store::peers::direct_logs;
use crate::roster::{MAX_BLOCKS, Refused};
use crate::store::person::lock_person;
use crate::store::{Store, known_users};
use crate::{Error, codec};

impl Store {
    /// Blocks a user, or unblocks them, and tells the direct room of the two, and the blocking
    /// user's own log. What is so already has no effect. The logs that are to be driven.
    pub(crate) async fn block(&self, blocking: &Blocking) -> Result<Vec<LogId>, Error> {
        let Blocking { tenant_id, user_id, other, blocked } = blocking;
        let mut tx = self.db.begin().await?;
        let person = lock_person(&mut tx, tenant_id, user_id).await?;
        let person = person.ok_or_else(|| Refused::no_user(user_id))?;
        let mut log_ids = direct_logs(&mut tx, tenant_id, user_id, other).await?;
        let now = self.clock.now();
        let Some(silent) = blocking.write(&mut tx, person.blocks, now).await? else {
            log_ids.extend(person.log());
            return Ok(log_ids);
        };
        for log_id in &log_ids {
            enqueue_silent(&mut tx, *log_id, codec::peer_blocks([other], *blocked, silent)).await?;
        }
        let own = codec::block(other, *blocked, silent);
        log_ids.push(person.say(&mut tx, tenant_id, user_id, own, now).await?);
        tx.commit().await?;
        Ok(log_ids)
    }

    /// The first `limit` users above `after` whom a user has blocked, by id.
    pub(crate) async fn blocked(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Blocked>, Error> {
        let select = "SELECT blocked_id, create_time FROM blocks
                      WHERE tenant_id = $1 AND user_id = $2 AND blocked_id > $3
                      ORDER BY blocked_id LIMIT $4";
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let select = select.bind(after.map_or("", UserId::as_str));
        let select = select.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let found: Vec<(String, Micros)> = select.fetch_all().await?;
        Ok(found.into_iter().map(|(user_id, since)| Blocked { user_id, since }).collect())
    }
}

/// Whether users of a tenant who are blocked from now on are told nothing of it.
async fn silent_blocks(tx: &mut Conn, tenant_id: &TenantId) -> Result<bool, StoreError> {
    let select = "SELECT silent_blocks FROM tenants WHERE tenant_id = $1";
    let found = tx.query(select).bind(tenant_id.as_str()).fetch_optional().await?;
    Ok(found.is_some_and(|(silent,)| silent))
}

impl Blocking {
    /// Writes it into the list of the user, whose row is locked and who has blocked so many. If
    /// that changed anything, whether the other one is told nothing of it: as the tenant has it
    /// when somebody is blocked, and as it was then when they are unblocked.
    async fn write(&self, tx: &mut Conn, blocks: i64, now: Micros) -> Result<Option<bool>, Error> {
        let Self { tenant_id, user_id, other, blocked } = self;
        let changed: Option<(bool,)> = if *blocked {
            if known_users(tx, tenant_id, &[other]).await?.is_empty() {
                return Err(Refused::no_user(other).into());
            }
            let insert = "INSERT INTO blocks (tenant_id, user_id, blocked_id, create_time, silent)
                          VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING silent";
            let silent = silent_blocks(tx, tenant_id).await?;
            let insert = tx.query(insert).bind(tenant_id.as_str()).bind(user_id.as_str());
            insert.bind(other.as_str()).bind(now).bind(silent).fetch_optional().await?
        } else {
            let delete = "DELETE FROM blocks
                          WHERE tenant_id = $1 AND user_id = $2 AND blocked_id = $3
                         RETURNING silent";
            let delete = tx.query(delete).bind(tenant_id.as_str()).bind(user_id.as_str());
            delete.bind(other.as_str()).fetch_optional().await?
        };
        if changed.is_some() && *blocked && blocks >= MAX_BLOCKS {
            return Err(Refused::TooManyBlocks.into());
        }
        if changed.is_some() {
            self.count(tx).await?;
        }
        Ok(changed.map(|(silent,)| silent))
    }

    async fn count(&self, tx: &mut Conn) -> Result<(), StoreError> {
        let count = "UPDATE users SET blocks = blocks + $3 WHERE tenant_id = $1 AND user_id = $2";
        let count = tx.query(count).bind(self.tenant_id.as_str()).bind(self.user_id.as_str());
        count.bind(if self.blocked { 1_i64 } else { -1 }).execute().await.map(drop)
    }
}
