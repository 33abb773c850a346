//! When users were last seen, in SQL.

use std::collections::BTreeMap;
use std::time::Duration;

use parlance_db::{Db, StoreError};
use parlance_types::{Micros, TenantId, UserId};

use super::User;

/// A user's row is written at most so often, whichever nodes see the user.
pub(crate) const SEEN_EVERY: Duration = Duration::from_mins(1);

/// How many users one statement is about.
const CHUNK: usize = 128;

/// When the users of all tenants were last seen.
#[derive(Clone, Debug)]
pub(crate) struct Store(pub(crate) Db);

impl Store {
    /// Writes down that a user is seen now, unless that was done within a minute. A time
    /// that is ahead, written by a clock that was, does not keep it from being written.
    pub(crate) async fn seen(
        &self,
        (tenant_id, user_id): &User,
        now: Micros,
    ) -> Result<(), StoreError> {
        let every = Micros::try_from(SEEN_EVERY.as_micros()).unwrap_or(Micros::MAX);
        self.0
            .write(
                "INSERT INTO last_seen (tenant_id, user_id, seen_at) VALUES ($1, $2, $3)
                 ON CONFLICT (tenant_id, user_id) DO UPDATE SET seen_at = excluded.seen_at
                 WHERE last_seen.seen_at <= $4 OR last_seen.seen_at > $5",
            )
            .bind(tenant_id.as_str())
            .bind(user_id.as_str())
            .bind(now)
            .bind(now - every)
            .bind(now + every)
            .execute()
            .await?;
        Ok(())
    }

    /// When users were last seen; those who never were are left out.
    pub(crate) async fn last_seen(
        &self,
        tenant_id: &TenantId,
        user_ids: &[UserId],
    ) -> Result<BTreeMap<UserId, Micros>, StoreError> {
        let mut found = BTreeMap::new();
        for chunk in user_ids.chunks(CHUNK) {
            let rows: Vec<(String, Micros)> = self
                .0
                .read(
                    "SELECT user_id, seen_at FROM (VALUES ($1, $2..)) w JOIN last_seen
                         ON tenant_id = w.column1 AND user_id = w.column2",
                )
                .bind(tenant_id.as_str())
                .bind_list(chunk.iter().map(UserId::as_str))
                .fetch_all()
                .await?;
            found.extend(rows.into_iter().map(|(user_id, time)| (UserId::new(user_id), time)));
        }
        Ok(found)
    }
}
