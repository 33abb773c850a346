//! Users in SQL.

use std::collections::{BTreeMap, BTreeSet};

use parlance_db::{StoreError, Stored};
use parlance_types::{Micros, Pairs, TenantId, UserId};

use super::{Prefix, Profile, User, folded};
use crate::Error;
use crate::store::Store;
use crate::store::newcomers::{Newcomers, ensure_users};
use crate::store::person::suspended;

type Row = (String, String, String, String, i64, i64, Micros);

/// The same, and whether the user was there before.
type Written = (String, String, String, String, i64, i64, Micros, bool);

/// The same, with the name by which a user is found.
type Found = (String, String, String, String, i64, i64, Micros, String);

macro_rules! columns {
    () => {
        "user_id, name, picture, metadata, create_time, update_time, suspended_until"
    };
}

fn user(row: Row) -> Result<User, StoreError> {
    let (user_id, name, picture, metadata, created, updated, suspended_until) = row;
    let pairs = serde_json::from_str(&metadata).ok();
    let pairs = Stored { table: "users", row: &user_id }.value("metadata", pairs)?;
    let profile = Profile::stored(name, picture, Pairs::stored(pairs));
    Ok(User { id: UserId::new(user_id), profile, created, updated, suspended_until })
}

fn json(metadata: &BTreeMap<String, String>) -> String {
    serde_json::to_string(metadata).expect("a map of strings is JSON")
}

impl Store {
    /// Writes users as wholes, all or none, and returns them as stored, in order.
    pub(crate) async fn upsert_users(
        &self,
        tenant_id: &TenantId,
        users: &[(UserId, Profile)],
    ) -> Result<Vec<User>, Error> {
        let now = self.clock.now();
        // Rows are locked by id: batches that overlap must not wait for each other in a circle.
        let mut sorted: Vec<_> = users.iter().collect();
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        let upsert = concat!(
            "INSERT INTO users (tenant_id, user_id, name, picture, metadata, create_time, update_time,
                                folded)
             VALUES ($1, $2, $3, $4, $5, $6, $6, $7)
             ON CONFLICT (tenant_id, user_id) DO UPDATE SET name = excluded.name,
               picture = excluded.picture, metadata = excluded.metadata,
               update_time = excluded.update_time, folded = excluded.folded, existed = TRUE
             RETURNING ",
            columns!(),
            ", existed"
        );
        let mut tx = self.db.begin().await?;
        let (mut stored, mut made) = (BTreeMap::new(), 0);
        for (user_id, profile) in sorted {
            let upsert = tx.query(upsert).bind(tenant_id.as_str()).bind(user_id.as_str());
            let upsert = upsert.bind(profile.name()).bind(profile.picture());
            let upsert = upsert.bind(json(profile.metadata())).bind(now);
            let row: Written = upsert.bind(folded(profile.name())).fetch_one().await?;
            let (id, name, picture, metadata, created, updated, until, existed) = row;
            stored.insert(user_id, user((id, name, picture, metadata, created, updated, until))?);
            made += usize::from(!existed);
        }
        Newcomers::new(made).admit(&mut tx, tenant_id).await?;
        tx.commit().await?;
        Ok(users.iter().filter_map(|(user_id, _)| stored.remove(user_id)).collect())
    }

    /// Lets a user come into being who calls for the first time; refuses one who is suspended.
    pub(crate) async fn ensure_user(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let found = self.users(tenant_id, std::slice::from_ref(user_id)).await?;
        if let Some(user) = found.get(user_id) {
            if user.suspended_until > now {
                return Err(suspended(None, user.suspended_until).into());
            }
        } else {
            let mut tx = self.db.begin().await?;
            let user_id = BTreeSet::from([user_id]);
            let newcomers = ensure_users(&mut tx, tenant_id, &user_id, now).await?;
            newcomers.admit(&mut tx, tenant_id).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// The first `limit` users whose name or id begins so, after the user with this name and
    /// id, each with the name by which they stand in this order.
    pub(crate) async fn search(
        &self,
        tenant_id: &TenantId,
        prefix: &Prefix,
        after: Option<&(String, UserId)>,
        limit: usize,
    ) -> Result<Vec<(User, String)>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let select = match prefix {
            Prefix::Name(prefix) => {
                let select = concat!(
                    "SELECT ",
                    columns!(),
                    ", folded FROM users WHERE tenant_id = $1 AND folded < $2
                        AND (folded, user_id) > ($3, $4)
                      ORDER BY folded, user_id LIMIT $5"
                );
                let (name, id) =
                    after.map_or((prefix.as_str(), ""), |(name, id)| (name, id.as_str()));
                let select = self.db.read(select).bind(tenant_id.as_str()).bind(end(prefix));
                select.bind(name).bind(id).bind(limit)
            }
            Prefix::Id(prefix) => {
                let select = concat!(
                    "SELECT ",
                    columns!(),
                    ", folded FROM users WHERE tenant_id = $1 AND user_id < $2
                        AND user_id >= $3 AND user_id > $4
                      ORDER BY user_id LIMIT $5"
                );
                let id = after.map_or("", |(_, id)| id.as_str());
                let select = self.db.read(select).bind(tenant_id.as_str()).bind(end(prefix));
                select.bind(prefix.as_str()).bind(id).bind(limit)
            }
        };
        let found: Vec<Found> = select.fetch_all().await?;
        let named = |(id, name, picture, metadata, created, updated, until, folded)| {
            let row = (id, name, picture, metadata, created, updated, until);
            Ok::<_, StoreError>((user(row)?, folded))
        };
        Ok(found.into_iter().map(named).collect::<Result<_, _>>()?)
    }

    /// Those of the users that exist.
    pub(crate) async fn users(
        &self,
        tenant_id: &TenantId,
        user_ids: &[UserId],
    ) -> Result<BTreeMap<UserId, User>, Error> {
        let select = concat!(
            "SELECT ",
            columns!(),
            " FROM (VALUES ($1, $2..)) w JOIN users
              ON tenant_id = w.column1 AND user_id = w.column2"
        );
        let select = self.db.read(select).bind(tenant_id.as_str());
        let found = select.bind_list(user_ids.iter().map(UserId::as_str)).fetch_all().await?;
        let keyed = |row| user(row).map(|user| (user.id.clone(), user));
        Ok(found.into_iter().map(keyed).collect::<Result<_, _>>()?)
    }
}

/// What all texts that begin so lie below.
fn end(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}
