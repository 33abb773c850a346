//! What operators decided for tenants, in SQL.

use parlance_db::{Conn, StoreError};
use parlance_types::{Micros, TenantId};

use super::TenantRules;
use crate::Error;
use crate::store::Store;

/// How long after a limit was set users are counted once more: longer than anything lasts that
/// makes one.
const UNCOUNTED: Micros = 60_000_000;

/// How many tenants are counted once more at once.
const RECOUNTED: i64 = 10;

impl Store {
    /// Puts rules in place of earlier ones. The version that holds now.
    pub(crate) async fn set_tenant_rules(
        &self,
        tenant_id: &TenantId,
        rules: TenantRules,
    ) -> Result<i64, Error> {
        let TenantRules { version, max_users, silent_blocks } = rules;
        let mut tx = self.db.begin().await?;
        let (known, before) = lock_tenant(&mut tx, tenant_id).await?;
        if known >= version {
            return Ok(known);
        }
        let set = "UPDATE tenants SET version = $2, max_users = $3, silent_blocks = $4
                    WHERE tenant_id = $1";
        let set = tx.query(set).bind(tenant_id.as_str()).bind(version).bind(max_users);
        set.bind(silent_blocks).execute().await?;
        match (before, max_users) {
            (None, Some(_)) => {
                let again = self.clock.now().saturating_add(UNCOUNTED);
                count(&mut tx, tenant_id, Some(again)).await?;
            }
            (Some(_), None) => {
                let forget =
                    "UPDATE tenants SET users = NULL, recount_time = NULL WHERE tenant_id = $1";
                tx.query(forget).bind(tenant_id.as_str()).execute().await?;
            }
            _ => {}
        }
        tx.commit().await?;
        Ok(version)
    }

    /// How many users a tenant has, if they are limited.
    pub(crate) async fn counted_users(&self, tenant_id: &TenantId) -> Result<Option<i64>, Error> {
        let select = "SELECT users FROM tenants WHERE tenant_id = $1";
        let found = self.db.read(select).bind(tenant_id.as_str()).fetch_optional().await?;
        Ok(found.and_then(|(users,)| users))
    }

    /// Counts users once more where a limit was set a minute ago.
    pub(crate) async fn recount_users(&self) -> Result<(), StoreError> {
        let due = "SELECT tenant_id FROM tenants WHERE recount_time <= $1 LIMIT $2";
        let due = self.db.read(due).bind(self.clock.now()).bind(RECOUNTED);
        let due: Vec<(String,)> = due.fetch_all().await?;
        for (tenant_id,) in due {
            let tenant_id = TenantId::new(tenant_id);
            let mut tx = self.db.begin().await?;
            if let (_, Some(_)) = lock_tenant(&mut tx, &tenant_id).await? {
                count(&mut tx, &tenant_id, None).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }
}

/// Locks the rules of a tenant until the transaction ends: their version, and how many users it
/// may have. From now on there is a row of them.
async fn lock_tenant(
    tx: &mut Conn,
    tenant_id: &TenantId,
) -> Result<(i64, Option<i64>), StoreError> {
    let lock = "INSERT INTO tenants (tenant_id, version) VALUES ($1, 0)
                ON CONFLICT (tenant_id) DO UPDATE SET version = tenants.version
                RETURNING version, max_users";
    tx.query(lock).bind(tenant_id.as_str()).fetch_one().await
}

/// Counts the users of a tenant whose rules are locked.
async fn count(
    tx: &mut Conn,
    tenant_id: &TenantId,
    again: Option<Micros>,
) -> Result<(), StoreError> {
    let count = "UPDATE tenants SET recount_time = $2,
                        users = (SELECT COUNT(*) FROM users WHERE tenant_id = $1)
                  WHERE tenant_id = $1";
    let count = tx.query(count).bind(tenant_id.as_str()).bind(again);
    count.execute().await.map(drop)
}
