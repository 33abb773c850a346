//! Users.

use std::collections::{BTreeMap, BTreeSet};

use parlance_db::{read_db, write_db};
use parlance_types::{Micros, TenantId, UserId};
use sqlx::AssertSqlSafe;

use super::{Store, Tx, in_tx, padded, placeholders};
use crate::Error;
use crate::domain::{Profile, User};

type Row = (String, String, String, String, i64, i64);

const COLUMNS: &str = "user_id, name, picture, metadata, create_time, update_time";

fn user((user_id, name, picture, metadata, created, updated): Row) -> Result<User, Error> {
    let metadata: BTreeMap<String, String> = serde_json::from_str(&metadata)
        .map_err(|_| Error::Impossible { table: "users", column: "metadata" })?;
    let profile = Profile::stored(name, picture, metadata);
    Ok(User { user_id: UserId::new(user_id), profile, created, updated })
}

fn json(metadata: &BTreeMap<String, String>) -> String {
    serde_json::to_string(metadata).expect("a map of strings is JSON")
}

impl Store {
    /// Writes users as wholes, all or none, and returns them as stored, in order.
    pub async fn upsert_users(
        &self,
        tenant_id: &TenantId,
        users: &[(UserId, Profile)],
    ) -> Result<Vec<User>, Error> {
        let now = self.clock.now();
        // Rows are locked by id: batches that overlap must not wait for each other in a circle.
        let mut sorted: Vec<_> = users.iter().collect();
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut tx = Tx::begin(&self.db).await?;
        let mut stored = BTreeMap::new();
        for (user_id, profile) in sorted {
            stored.insert(user_id, tx.upsert_user(tenant_id, user_id, profile, now).await?);
        }
        tx.commit().await?;
        Ok(users.iter().filter_map(|(user_id, _)| stored.remove(user_id)).collect())
    }

    /// Lets a user come into being who calls for the first time.
    pub async fn ensure_user(&self, tenant_id: &TenantId, user_id: &UserId) -> Result<(), Error> {
        if !self.users(tenant_id, std::slice::from_ref(user_id)).await?.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        write_db!(&self.db, |pool| {
            sqlx::query(
                "INSERT INTO users
                   (tenant_id, user_id, name, picture, metadata, create_time, update_time)
                 VALUES ($1, $2, '', '', '{}', $3, $3)
                 ON CONFLICT (tenant_id, user_id) DO NOTHING",
            )
            .bind(tenant_id.as_str())
            .bind(user_id.as_str())
            .bind(now)
            .execute(pool)
            .await
            .map(drop)
        })?;
        Ok(())
    }

    /// Those of the users that exist.
    pub async fn users(
        &self,
        tenant_id: &TenantId,
        user_ids: &[UserId],
    ) -> Result<BTreeMap<UserId, User>, Error> {
        if user_ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = placeholders(2, user_ids.len());
        let sql =
            format!("SELECT {COLUMNS} FROM users WHERE tenant_id = $1 AND user_id IN ({list})");
        let rows: Vec<Row> = read_db!(&self.db, |pool| {
            let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(tenant_id.as_str());
            for user_id in padded(user_ids) {
                query = query.bind(user_id.as_str());
            }
            query.fetch_all(pool).await
        })?;
        rows.into_iter().map(|row| user(row).map(|user| (user.user_id.clone(), user))).collect()
    }
}

impl Tx {
    async fn upsert_user(
        &mut self,
        tenant_id: &TenantId,
        user_id: &UserId,
        profile: &Profile,
        now: Micros,
    ) -> Result<User, Error> {
        let row: Row = in_tx!(self, |tx| {
            sqlx::query_as(
                "INSERT INTO users
                   (tenant_id, user_id, name, picture, metadata, create_time, update_time)
                 VALUES ($1, $2, $3, $4, $5, $6, $6)
                 ON CONFLICT (tenant_id, user_id) DO UPDATE SET name = excluded.name,
                   picture = excluded.picture, metadata = excluded.metadata,
                   update_time = excluded.update_time
                 RETURNING user_id, name, picture, metadata, create_time, update_time",
            )
            .bind(tenant_id.as_str())
            .bind(user_id.as_str())
            .bind(profile.name())
            .bind(profile.picture())
            .bind(json(profile.metadata()))
            .bind(now)
            .fetch_one(&mut **tx)
            .await
        })?;
        user(row)
    }

    /// Lets users come into being who do not exist, in order of their ids.
    pub(super) async fn ensure_users(
        &mut self,
        tenant_id: &TenantId,
        user_ids: &BTreeSet<&UserId>,
        now: Micros,
    ) -> Result<(), Error> {
        let user_ids: Vec<_> = user_ids.iter().copied().collect();
        if user_ids.is_empty() {
            return Ok(());
        }
        let row = |index: usize| format!("($1, ${}, '', '', '{{}}', $2, $2)", index + 3);
        let rows: Vec<_> = (0..padded(&user_ids).count()).map(row).collect();
        let sql = format!(
            "INSERT INTO users
               (tenant_id, user_id, name, picture, metadata, create_time, update_time)
             VALUES {} ON CONFLICT (tenant_id, user_id) DO NOTHING",
            rows.join(", ")
        );
        in_tx!(self, |tx| {
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(tenant_id.as_str()).bind(now);
            for user_id in padded(&user_ids) {
                query = query.bind(user_id.as_str());
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
        Ok(())
    }

    /// Those of the users that exist.
    pub(super) async fn known_users(
        &mut self,
        tenant_id: &TenantId,
        user_ids: &[&UserId],
    ) -> Result<BTreeSet<UserId>, Error> {
        if user_ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        let list = placeholders(2, user_ids.len());
        let sql = format!("SELECT user_id FROM users WHERE tenant_id = $1 AND user_id IN ({list})");
        let found: Vec<String> = in_tx!(self, |tx| {
            let mut query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(tenant_id.as_str());
            for user_id in padded(user_ids) {
                query = query.bind(user_id.as_str());
            }
            query.fetch_all(&mut **tx).await
        })?;
        Ok(found.into_iter().map(UserId::new).collect())
    }
}
