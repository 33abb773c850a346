//! What holds for a user in every room: said in a log of the user's own, which the user's row
//! names.

use parlance_db::{Conn, StoreError};
use parlance_outbox::{OutboxLog, enqueue_silent, register};
use parlance_types::{LogId, Micros, TenantId, UserId};
use uuid::{NoContext, Timestamp, Uuid};

use crate::Error;
use crate::codec::Silent;
use crate::roster::{FOR_EVER, Refused};

parlance_db::row! {
    /// What the row of a user says, which is locked.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Person {
        pub(crate) own_log: Option<Uuid>,
        pub(crate) suspended_until: Micros,
        /// How many users they have blocked.
        pub(crate) blocks: i64,
    }
}

/// Locks the row of a user until the transaction ends; `None`: there is none.
pub(crate) async fn lock_person(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Option<Person>, StoreError> {
    let lock = "UPDATE users SET name = name WHERE tenant_id = $1 AND user_id = $2
                RETURNING own_log, suspended_until, blocks";
    let lock = tx.query(lock).bind(tenant_id.as_str()).bind(user_id.as_str());
    lock.fetch_optional().await
}

impl Person {
    /// Enqueues what holds for the user from here on. The log to be driven.
    pub(crate) async fn say(
        self,
        tx: &mut Conn,
        tenant_id: &TenantId,
        user_id: &UserId,
        silent: Silent,
        now: Micros,
    ) -> Result<LogId, StoreError> {
        let log_id = LogId(self.own_log.unwrap_or_else(|| fresh_id(now)));
        if self.own_log.is_none() {
            let set = "UPDATE users SET own_log = $3 WHERE tenant_id = $1 AND user_id = $2";
            let set = tx.query(set).bind(tenant_id.as_str()).bind(user_id.as_str());
            set.bind(log_id.0).execute().await?;
            register(tx, &OutboxLog::own(log_id, tenant_id.clone(), user_id)).await?;
        }
        enqueue_silent(tx, log_id, silent).await?;
        Ok(log_id)
    }

    /// The log to be driven where nothing changes: what was said before may still be on its way.
    pub(crate) fn log(self) -> Vec<LogId> {
        self.own_log.into_iter().map(LogId).collect()
    }
}

fn fresh_id(now: Micros) -> Uuid {
    let now = u64::try_from(now).unwrap_or_default();
    let nanos = u32::try_from(now % 1_000_000 * 1000).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, now / 1_000_000, nanos))
}

/// Refuses users who are suspended, of those who are to come into a room: whatever the way.
pub(crate) async fn not_suspended(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_ids: impl Iterator<Item = &UserId>,
    now: Micros,
) -> Result<(), Error> {
    let select = "SELECT user_id, suspended_until FROM (VALUES ($1, $2..)) w JOIN users
                      ON tenant_id = w.column1 AND user_id = w.column2
                   ORDER BY user_id";
    let select = tx.query(select).bind(tenant_id.as_str());
    let found: Vec<(String, Micros)> =
        select.bind_list(user_ids.map(UserId::as_str)).fetch_all().await?;
    match found.into_iter().find(|(_, until)| *until > now) {
        Some((user_id, until)) => Err(suspended(Some(user_id), until).into()),
        None => Ok(()),
    }
}

/// The refusal of somebody, or of the caller, who is suspended until then.
pub(crate) fn suspended(user_id: Option<String>, until: Micros) -> Refused {
    Refused::Suspended { user_id, until: (until != FOR_EVER).then_some(until) }
}
