//! What the stores of all nouns stand on.

pub(crate) mod blocks;
pub(crate) mod newcomers;
pub(crate) mod person;

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_db::{Conn, Db, StoreError};
use parlance_types::{Clock, LogId, TenantId, UserId};

/// The directory and the rosters.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A committed change, whose facts may still have to be driven into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done<T> {
    pub(crate) log_id: LogId,
    pub(crate) value: T,
}

impl Store {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }
}

/// Those of the users that exist.
pub(crate) async fn known_users(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_ids: &[&UserId],
) -> Result<BTreeSet<UserId>, StoreError> {
    let select = "SELECT user_id FROM (VALUES ($1, $2..)) w JOIN users
                      ON tenant_id = w.column1 AND user_id = w.column2";
    let found = tx.query(select).bind(tenant_id.as_str());
    let found: Vec<(String,)> =
        found.bind_list(user_ids.iter().map(|id| id.as_str())).fetch_all().await?;
    Ok(found.into_iter().map(|(user_id,)| UserId::new(user_id)).collect())
}
