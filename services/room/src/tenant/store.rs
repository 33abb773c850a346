//! The settings of tenants in SQL.

use parlance_db::{Db, StoreError, Stored};
use parlance_types::{Micros, TenantId};

use super::{BlockPolicy, Change, TenantSettings};
use crate::Error;
use crate::room::AllowedFields;
use crate::room::FOLLOW;
use crate::room::store::{SETTINGS, TenantRow, limit, lock_tenant};

fn settings(row: &TenantRow) -> Result<TenantSettings, StoreError> {
    let stored = Stored { table: "tenant_settings", row: row.version };
    let allowed = serde_json::from_str(&row.allowed_fields).ok();
    let allowed_fields: AllowedFields = stored.value("allowed_fields", allowed)?;
    let policy = BlockPolicy::from_i16(row.block_policy);
    Ok(TenantSettings {
        allowed_fields,
        limits: row.limits(),
        block_policy: stored.value("block_policy", policy)?,
        rules: row.rules(),
        used: row.used(),
        version: row.version,
    })
}

/// The settings of a tenant, the defaults if there are none.
pub(super) async fn get(db: &Db, tenant: &TenantId) -> Result<TenantSettings, Error> {
    let found = db.read(SETTINGS).bind(tenant.as_str()).fetch_optional::<TenantRow>().await?;
    Ok(found.as_ref().map(settings).transpose()?.unwrap_or_default())
}

/// Gives the settings of a tenant a version after one that was seen elsewhere.
pub(super) async fn renew(db: &Db, tenant: &TenantId, seen: i64) -> Result<TenantSettings, Error> {
    let mut tx = db.begin().await?;
    let mut renewed = settings(&lock_tenant(&mut tx, tenant).await?)?;
    renewed.version = renewed.version.max(seen) + 1;
    let set = "UPDATE tenant_settings SET version = $2 WHERE tenant_id = $1";
    tx.query(set).bind(tenant.as_str()).bind(renewed.version).execute().await?;
    tx.commit().await?;
    Ok(renewed)
}

/// Changes the settings of a tenant, of several changes at once one after the other.
pub(super) async fn set(
    db: &Db,
    tenant: &TenantId,
    change: &Change,
    now: Micros,
) -> Result<TenantSettings, Error> {
    let mut tx = db.begin().await?;
    let before = settings(&lock_tenant(&mut tx, tenant).await?)?;
    let (limits, retention) = (before.limits, before.rules.retention);
    let after = before.after(change);
    let names = serde_json::to_string(&after.allowed_fields).expect("a map of texts is JSON");
    let set = "UPDATE tenant_settings
                  SET allowed_fields = $2, version = $3, block_policy = $4,
                      max_live_rooms_per_user = $5, retention = $6,
                      retention_time = CASE WHEN $7 THEN $8 ELSE retention_time END
                WHERE tenant_id = $1";
    let set = tx.query(set).bind(tenant.as_str()).bind(names).bind(after.version);
    let set = set.bind(after.block_policy as i16);
    let set = set.bind(after.rules.max_live_rooms_per_user).bind(after.rules.retention);
    let set = set.bind(after.rules.retention != retention).bind(now.saturating_add(FOLLOW));
    set.execute().await?;
    if after.limits != limits {
        limit(&mut tx, tenant, (limits, after.limits), now).await?;
    }
    tx.commit().await?;
    Ok(after)
}
