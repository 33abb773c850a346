//! When users were last seen, in SQL: one body for SQLite and Postgres.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parlance_db::{Db, read_db, write_db};
use parlance_types::{Clock, Micros, TenantId, UserId};
use sqlx::AssertSqlSafe;

use crate::Error;
use crate::domain::User;

/// A user's row is written at most so often, whichever nodes see the user.
pub(crate) const SEEN_EVERY: Duration = Duration::from_mins(1);

/// How long a statement may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How many users one statement is about.
const CHUNK: usize = 100;

/// When the users of all tenants were last seen.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    db: Db,
    clock: Arc<dyn Clock>,
}

async fn bounded<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(TIMEOUT, statement).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::StoreTimeout),
    }
}

impl Store {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// Writes down that a user is seen now, unless that was done within a minute.
    pub(crate) async fn seen(&self, (tenant_id, user_id): &User) -> Result<(), Error> {
        let now = self.clock.now();
        let every = Micros::try_from(SEEN_EVERY.as_micros()).unwrap_or(Micros::MAX);
        bounded(async {
            write_db!(&self.db, |pool| {
                sqlx::query(
                    "INSERT INTO last_seen (tenant_id, user_id, seen_at) VALUES ($1, $2, $3)
                     ON CONFLICT (tenant_id, user_id) DO UPDATE SET seen_at = excluded.seen_at
                     WHERE last_seen.seen_at <= $4",
                )
                .bind(tenant_id.as_str())
                .bind(user_id.as_str())
                .bind(now)
                .bind(now - every)
                .execute(pool)
                .await
                .map(drop)
            })
        })
        .await
    }

    /// When users were last seen; those who never were are left out.
    pub(crate) async fn last_seen(
        &self,
        tenant_id: &TenantId,
        user_ids: &[UserId],
    ) -> Result<BTreeMap<UserId, Micros>, Error> {
        let mut found = BTreeMap::new();
        for chunk in user_ids.chunks(CHUNK) {
            let rows = bounded(self.rows(tenant_id, chunk)).await?;
            found.extend(rows.into_iter().map(|(id, time)| (UserId::new(id), time)));
        }
        Ok(found)
    }

    async fn rows(
        &self,
        tenant_id: &TenantId,
        user_ids: &[UserId],
    ) -> Result<Vec<(String, Micros)>, sqlx::Error> {
        let mut list = String::from("$2");
        // Always as many, so that there is one statement to prepare.
        for n in 3..CHUNK + 2 {
            write!(list, ", ${n}").expect("a string takes what is written");
        }
        let sql = format!(
            "SELECT user_id, seen_at FROM last_seen WHERE tenant_id = $1 AND user_id IN ({list})"
        );
        let padding = user_ids.last().into_iter().cycle();
        read_db!(&self.db, |pool| {
            let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(tenant_id.as_str());
            for user_id in user_ids.iter().chain(padding).take(CHUNK) {
                query = query.bind(user_id.as_str());
            }
            query.fetch_all(pool).await
        })
    }
}
