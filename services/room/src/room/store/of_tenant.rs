//! What holds for all rooms of a tenant together.

use parlance_db::{Conn, StoreError};
use parlance_types::{RoomKind, TenantId};

use crate::Error;

/// The most broadcasts of a tenant: each list of a user's rooms looks at all of them.
const MAX_BROADCASTS: i64 = 20;

const _: () = assert!(RoomKind::Broadcast as i16 == 4);

/// Locks the settings of a tenant until the transaction ends: the names of the fields that
/// rooms may have, as they are stored, and the version. From now on there is a row of them.
pub(crate) async fn lock_tenant(
    tx: &mut Conn,
    tenant_id: &TenantId,
) -> Result<(String, i64), StoreError> {
    let lock = "INSERT INTO tenant_settings (tenant_id, allowed_fields, version)
                VALUES ($1, '{}', 0)
                ON CONFLICT (tenant_id) DO UPDATE SET version = tenant_settings.version
                RETURNING allowed_fields, version";
    tx.query(lock).bind(tenant_id.as_str()).fetch_one().await
}

/// Fails if a tenant has as many broadcasts as it may. They are made one after the other.
pub(super) async fn one_more_broadcast(tx: &mut Conn, tenant_id: &TenantId) -> Result<(), Error> {
    lock_tenant(tx, tenant_id).await?;
    // Not bound: an index holds these rooms only.
    let count =
        concat!("SELECT COUNT(*) FROM rooms WHERE tenant_id = $1 AND kind = 4 AND ", held!());
    let (broadcasts,): (i64,) = tx.query(count).bind(tenant_id.as_str()).fetch_one().await?;
    if broadcasts < MAX_BROADCASTS { Ok(()) } else { Err(Error::TooManyBroadcasts) }
}
