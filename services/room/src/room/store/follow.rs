//! Which rooms do not follow their tenants yet.

use parlance_types::{LogId, Micros, TenantId};
use uuid::Uuid;

use super::Store;
use crate::Error;

/// How many tenants are looked for at once.
const TENANTS: i64 = 10;

/// A tenant whose rooms begin to follow what it decided.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    tenant_id: TenantId,
    retention: i64,
    /// Since when.
    since: Micros,
}

impl Store {
    /// Tenants whose rooms follow at `now`.
    pub(crate) async fn followed(&self, now: Micros) -> Result<Vec<Followed>, Error> {
        let select = "SELECT tenant_id, retention, retention_time FROM tenant_settings
                      WHERE retention_time <= $1 ORDER BY retention_time LIMIT $2";
        let found = self.db.read(select).bind(now).bind(TENANTS).fetch_all().await?;
        let followed = |(tenant_id, retention, since): (String, i64, Micros)| {
            let tenant_id = TenantId::new(tenant_id);
            Followed { tenant_id, retention, since }
        };
        Ok(found.into_iter().map(followed).collect())
    }

    /// Rooms that are there and keep events for another time than their tenant says.
    pub(crate) async fn behind(
        &self,
        followed: &Followed,
        limit: i64,
    ) -> Result<Vec<LogId>, Error> {
        let mut behind = Vec::new();
        // Not bound: an index holds these rooms only. Two ranges of it are left.
        for select in [
            "SELECT log_id FROM rooms
             WHERE tenant_id = $1 AND retention = 0 AND state = 2 AND kept < $2 LIMIT $3",
            "SELECT log_id FROM rooms
             WHERE tenant_id = $1 AND retention = 0 AND state = 2 AND kept > $2 LIMIT $3",
        ] {
            let select = self.db.read(select).bind(followed.tenant_id.as_str());
            let found = select.bind(followed.retention).bind(limit).fetch_all().await?;
            behind.extend(found.into_iter().map(|(log_id,): (Uuid,)| LogId(log_id)));
        }
        Ok(behind)
    }

    /// Notes that all rooms of a tenant follow what it decided, unless it decided anew.
    pub(crate) async fn all_follow(&self, followed: &Followed) -> Result<(), Error> {
        let note = "UPDATE tenant_settings SET retention_time = NULL
                    WHERE tenant_id = $1 AND retention_time = $2 AND retention = $3";
        let note = self.db.write(note).bind(followed.tenant_id.as_str()).bind(followed.since);
        note.bind(followed.retention).execute().await?;
        Ok(())
    }
}
