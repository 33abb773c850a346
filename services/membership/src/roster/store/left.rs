//! The rooms that users are no longer in.

use parlance_types::{LogId, Micros, TenantId, UserId};
use uuid::Uuid;

use crate::Error;
use crate::store::Store;

/// How many rooms are told of that a user left.
const LEFT: i64 = 1000;

impl Store {
    /// The rooms that a user left or was removed from and that are still there, those left last
    /// first, and when that was.
    pub(crate) async fn left(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
    ) -> Result<Vec<(LogId, Micros)>, Error> {
        let select = "SELECT log_id, leave_time FROM members
                      WHERE tenant_id = $1 AND user_id = $2 AND leave_time IS NOT NULL
                      ORDER BY leave_time DESC LIMIT $3";
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let found: Vec<(Uuid, Micros)> = select.bind(LEFT).fetch_all().await?;
        Ok(found.into_iter().map(|(log_id, time)| (LogId(log_id), time)).collect())
    }
}
