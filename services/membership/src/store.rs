//! What the stores of all nouns stand on.

pub(crate) mod person;

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_db::{AssertSqlSafe, Conn, Db, StoreError, rows};
use parlance_types::{Clock, LogId, Micros, TenantId, UserId};

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

/// Lets users come into being who do not exist, in order of their ids.
pub(crate) async fn ensure_users(
    conn: &mut Conn,
    tenant_id: &TenantId,
    user_ids: &BTreeSet<&UserId>,
    now: Micros,
) -> Result<(), StoreError> {
    if user_ids.is_empty() {
        return Ok(());
    }
    let users = rows(3, user_ids.len(), "($1, $+, '', '', '{}', $2, $2)");
    let insert = AssertSqlSafe(format!(
        "INSERT INTO users (tenant_id, user_id, name, picture, metadata, create_time, update_time)
         VALUES {users} ON CONFLICT (tenant_id, user_id) DO NOTHING"
    ));
    let insert = conn.query(insert).bind(tenant_id.as_str()).bind(now);
    // As many texts as there are lengths.
    let mut insert = if user_ids.len() == 1 { insert } else { insert.once() };
    for user_id in user_ids {
        insert = insert.bind(user_id.as_str());
    }
    insert.execute().await.map(drop)
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
