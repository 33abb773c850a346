//! Users who come into being, and how many of them a tenant may have.

use std::collections::BTreeSet;

use parlance_db::{AssertSqlSafe, Conn, StoreError, rows};
use parlance_types::{Micros, TenantId, UserId};

use crate::Error;
use crate::roster::Refused;

/// How many users a transaction made. Nothing else is locked behind the count of a tenant, so it
/// is the last that a transaction does.
#[must_use = "a tenant may have a limit"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Newcomers(i64);

impl Newcomers {
    pub(crate) fn new(made: usize) -> Self {
        Self(i64::try_from(made).unwrap_or(i64::MAX))
    }

    pub(crate) const fn and(self, others: Self) -> Self {
        Self(self.0.saturating_add(others.0))
    }

    /// Counts them if the users of the tenant are limited, and fails if they are too many. If
    /// not, nothing is locked.
    pub(crate) async fn admit(self, tx: &mut Conn, tenant_id: &TenantId) -> Result<(), Error> {
        if self.0 == 0 {
            return Ok(());
        }
        let count = "UPDATE tenants SET users = users + $2
                      WHERE tenant_id = $1 AND max_users IS NOT NULL RETURNING max_users, users";
        let count = tx.query(count).bind(tenant_id.as_str()).bind(self.0);
        match count.fetch_optional::<(i64, i64)>().await? {
            Some((most, users)) if users > most => {
                Err(Refused::QuotaExceeded { limit: "users", most }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Lets users come into being who do not exist, in order of their ids.
pub(crate) async fn ensure_users(
    conn: &mut Conn,
    tenant_id: &TenantId,
    user_ids: &BTreeSet<&UserId>,
    now: Micros,
) -> Result<Newcomers, StoreError> {
    if user_ids.is_empty() {
        return Ok(Newcomers::default());
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
    let made = insert.execute().await?;
    Ok(Newcomers::new(usize::try_from(made).unwrap_or(usize::MAX)))
}
