//! Which log a room's latest life is.

use std::time::Duration;

use moka::future::Cache;
use parlance_db::{Db, lend, read_db};
use parlance_types::{LogId, RoomId, TenantId};
use uuid::Uuid;

use super::read::bounded;
use crate::Error;

const ROOMS: u64 = 100_000;

/// A life that ended elsewhere is noticed by then, if not by the first use.
const KEEP: Duration = Duration::from_mins(1);

/// Remembers which log each room is; closed ones never, for the room may begin a new
/// life at any time.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    db: Db,
    logs: Cache<(TenantId, RoomId), LogId>,
}

impl Resolver {
    pub(super) fn new(db: Db) -> Self {
        Self { db, logs: Cache::builder().max_capacity(ROOMS).time_to_live(KEEP).build() }
    }

    pub(super) async fn resolve(
        &self,
        tenant_id: &TenantId,
        room_id: &RoomId,
    ) -> Result<Option<LogId>, Error> {
        let key = (tenant_id.clone(), room_id.clone());
        if let Some(log_id) = self.logs.get(&key).await {
            return Ok(Some(log_id));
        }
        let select = "SELECT h.log_id, h.closed_seq IS NOT NULL
                        FROM room_logs r JOIN heads h ON h.log_id = r.log_id
                       WHERE r.tenant_id = $1 AND r.room_id = $2";
        let found: Option<(Uuid, bool)> = bounded(async {
            read_db!(&self.db, |pool| sqlx::query_as(select)
                .bind(tenant_id.as_str())
                .bind(room_id.as_str())
                .fetch_optional(&mut *lend(pool).await?)
                .await)
        })
        .await?;
        let Some((log_id, closed)) = found else { return Ok(None) };
        let log_id = LogId(log_id);
        if !closed {
            self.logs.insert(key, log_id).await;
        }
        Ok(Some(log_id))
    }

    /// Looks the room up again next time: its life ended.
    pub(super) async fn forget(&self, tenant_id: TenantId, room_id: RoomId) {
        self.logs.invalidate(&(tenant_id, room_id)).await;
    }
}
