//! Which log a room's latest life is.

use std::time::Duration;

use moka::future::Cache;
use parlance_db::{Conn, Db};
use parlance_rpc::Reason;
use parlance_types::{LogId, RoomId, TenantId};
use uuid::Uuid;

use crate::Error;

const ROOMS: u64 = 100_000;

/// A life that ended elsewhere is noticed by then, if not by the first use.
const KEEP: Duration = Duration::from_mins(1);

const HOLDER: &str = "SELECT log_id FROM room_logs WHERE tenant_id = $1 AND room_id = $2";
const HOLDERS: &str = "SELECT log_id FROM (VALUES ($1, $2..)) w JOIN room_logs
                           ON tenant_id = w.column1 AND room_id = w.column2";
const IS_OPEN: &str = "SELECT closed_seq IS NULL FROM heads WHERE log_id = $1";

/// Remembers which log each room is; closed ones never, for the room may begin a new
/// life at any time.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    db: Db,
    logs: Cache<(TenantId, RoomId), LogId>,
}

impl Resolver {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, logs: Cache::builder().max_capacity(ROOMS).time_to_live(KEEP).build() }
    }

    pub(crate) async fn resolve(
        &self,
        tenant_id: &TenantId,
        room_id: &RoomId,
    ) -> Result<Option<LogId>, Error> {
        let key = (tenant_id.clone(), room_id.clone());
        if let Some(log_id) = self.logs.get(&key).await {
            return Ok(Some(log_id));
        }
        let holder = self.db.read(HOLDER).bind(tenant_id.as_str()).bind(room_id.as_str());
        let Some((log_id,)) = holder.fetch_optional().await? else { return Ok(None) };
        let log_id = LogId(log_id);
        let open = self.db.read(IS_OPEN).bind(log_id.0).fetch_optional().await?;
        if open == Some((true,)) {
            self.logs.insert(key, log_id).await;
        }
        Ok(Some(log_id))
    }

    pub(crate) async fn resolve_all(
        &self,
        tenant_id: &TenantId,
        room_ids: &[RoomId],
    ) -> Result<Vec<LogId>, Error> {
        let holders = self.db.read(HOLDERS).bind(tenant_id.as_str());
        let holders = holders.bind_list(room_ids.iter().map(RoomId::as_str));
        let logs: Vec<(Uuid,)> = holders.fetch_all().await?;
        Ok(logs.into_iter().map(|(log_id,)| LogId(log_id)).collect())
    }

    /// Looks the room up again next time: its life ended.
    pub(crate) async fn forget(&self, tenant_id: TenantId, room_id: RoomId) {
        self.logs.invalidate(&(tenant_id, room_id)).await;
    }
}

/// Makes the log the room's present life, unless another life is still open.
pub(crate) async fn take(
    conn: &mut Conn,
    tenant_id: &TenantId,
    room_id: &RoomId,
    log_id: LogId,
) -> Result<(), Error> {
    let insert = "INSERT INTO room_logs (tenant_id, room_id, log_id) VALUES ($1, $2, $3)
                  ON CONFLICT (tenant_id, room_id) DO NOTHING";
    let update = "UPDATE room_logs SET log_id = $3
                  WHERE tenant_id = $1 AND room_id = $2 AND log_id = $4";
    // A log that is purged at the same time gives the id back.
    for _ in 0..3 {
        // Of two logs that want the id at once the second one waits here.
        let insert = conn.query(insert).bind(tenant_id.as_str()).bind(room_id.as_str());
        if insert.bind(log_id.0).execute().await? > 0 {
            return Ok(());
        }
        let holder = conn.query(HOLDER).bind(tenant_id.as_str()).bind(room_id.as_str());
        let Some((holder,)): Option<(Uuid,)> = holder.fetch_optional().await? else { continue };
        // A log that was closed stays closed.
        if conn.query(IS_OPEN).bind(holder).fetch_optional().await? == Some((true,)) {
            break;
        }
        let update = conn.query(update).bind(tenant_id.as_str()).bind(room_id.as_str());
        if update.bind(log_id.0).bind(holder).execute().await? > 0 {
            return Ok(());
        }
    }
    Err(Error::Refused(Reason::RoomIdTaken, "another open room holds the id"))
}

/// Gives the id of a room back whose log is purged, if no later life has it.
pub(crate) async fn release(
    conn: &mut Conn,
    tenant_id: &str,
    room_id: &str,
    log_id: LogId,
) -> Result<(), Error> {
    let delete = "DELETE FROM room_logs WHERE tenant_id = $1 AND room_id = $2 AND log_id = $3";
    let delete = conn.query(delete).bind(tenant_id).bind(room_id).bind(log_id.0);
    delete.execute().await?;
    Ok(())
}
