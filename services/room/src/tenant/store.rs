//! The settings of tenants in SQL.

use parlance_db::{Db, StoreError, Stored};
use parlance_types::TenantId;

use super::{Change, TenantSettings};
use crate::Error;
use crate::room::AllowedFields;
use crate::room::store::lock_tenant;

type Row = (String, i64);

fn settings((allowed_fields, version): Row) -> Result<TenantSettings, StoreError> {
    let stored = Stored { table: "tenant_settings", row: version };
    let allowed = serde_json::from_str(&allowed_fields).ok();
    let allowed_fields: AllowedFields = stored.value("allowed_fields", allowed)?;
    Ok(TenantSettings { allowed_fields, version })
}

/// The settings of a tenant, the defaults if there are none.
pub(super) async fn get(db: &Db, tenant: &TenantId) -> Result<TenantSettings, Error> {
    let select = "SELECT allowed_fields, version FROM tenant_settings WHERE tenant_id = $1";
    let found: Option<Row> = db.read(select).bind(tenant.as_str()).fetch_optional().await?;
    Ok(found.map(settings).transpose()?.unwrap_or_default())
}

/// Changes the settings of a tenant, of several changes at once one after the other.
pub(super) async fn set(
    db: &Db,
    tenant: &TenantId,
    change: &Change,
) -> Result<TenantSettings, Error> {
    let mut tx = db.begin().await?;
    let after = settings(lock_tenant(&mut tx, tenant).await?)?.after(change);
    let names = serde_json::to_string(&after.allowed_fields).expect("a map of texts is JSON");
    let set = "UPDATE tenant_settings SET allowed_fields = $2, version = $3 WHERE tenant_id = $1";
    let set = tx.query(set).bind(tenant.as_str()).bind(names).bind(after.version);
    set.execute().await?;
    tx.commit().await?;
    Ok(after)
}
