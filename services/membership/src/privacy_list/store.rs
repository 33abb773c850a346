//! Privacy lists in SQL.

use std::collections::BTreeMap;

use parlance_db::{Conn, StoreError, Stored};
use parlance_types::{LogId, TenantId, UserId};

use super::{Item, ListName, MAX_LISTS, PrivacyList};
use crate::Error;
use crate::roster::Refused;
use crate::store::blocks::{Block, Change, blocks_of, change_blocks, silent_blocks};
use crate::store::person::lock_person;
use crate::store::{Store, known_users};

/// An item as it is stored: a user, whether they are denied, and whether mutually.
type Row = (String, bool, bool);

fn json(items: &[Item]) -> String {
    let row = |item: &Item| (item.user_id.as_str().to_owned(), item.denied, item.mutual);
    let rows: Vec<Row> = items.iter().map(row).collect();
    serde_json::to_string(&rows).expect("a list of texts is JSON")
}

fn items(user_id: &UserId, json: &str) -> Result<Vec<Item>, StoreError> {
    let stored = Stored { table: "privacy_lists", row: user_id };
    let rows: Vec<Row> = stored.value("items", serde_json::from_str(json).ok())?;
    let item = |(user_id, denied, mutual)| Item { user_id: UserId::new(user_id), denied, mutual };
    Ok(rows.into_iter().map(item).collect())
}

impl Store {
    /// Puts a list of a user in place of what it was; one without items is none.
    pub(crate) async fn put_privacy_list(
        &self,
        (tenant_id, user_id): (&TenantId, &UserId),
        name: &ListName,
        items: &[Item],
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let person = lock_person(&mut tx, tenant_id, user_id).await?;
        person.ok_or_else(|| Refused::no_user(user_id))?;
        let select = "SELECT name, is_default FROM privacy_lists
                       WHERE tenant_id = $1 AND user_id = $2";
        let select = tx.query(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let lists: Vec<(String, bool)> = select.fetch_all().await?;
        let found = lists.iter().find(|(found, _)| found == name.as_str());
        match found {
            Some((_, true)) => return Err(Refused::PrivacyListInUse.into()),
            None if !items.is_empty() && lists.len() >= MAX_LISTS => {
                return Err(Refused::TooManyPrivacyLists.into());
            }
            _ => {}
        }
        let users: Vec<_> = items.iter().map(|item| &item.user_id).collect();
        let put = if users.is_empty() {
            let delete = "DELETE FROM privacy_lists
                           WHERE tenant_id = $1 AND user_id = $2 AND name = $3";
            tx.query(delete).bind(tenant_id.as_str()).bind(user_id.as_str()).bind(name.as_str())
        } else {
            let known = known_users(&mut tx, tenant_id, &users).await?;
            if let Some(missing) = users.into_iter().find(|user_id| !known.contains(*user_id)) {
                return Err(Refused::no_user(missing).into());
            }
            let put = "INSERT INTO privacy_lists (tenant_id, user_id, name, is_default, items)
                       VALUES ($1, $2, $3, FALSE, $4)
                       ON CONFLICT (tenant_id, user_id, name) DO UPDATE
                         SET items = excluded.items";
            let put = tx.query(put).bind(tenant_id.as_str()).bind(user_id.as_str());
            put.bind(name.as_str()).bind(json(items))
        };
        put.execute().await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) async fn privacy_list(
        &self,
        (tenant_id, user_id): (&TenantId, &UserId),
        name: &ListName,
    ) -> Result<Option<PrivacyList>, Error> {
        let mut conn = self.db.reader().await?;
        Ok(find(&mut conn, tenant_id, user_id, name).await?)
    }

    /// The names of a user's lists, and which is the default.
    pub(crate) async fn privacy_lists(
        &self,
        (tenant_id, user_id): (&TenantId, &UserId),
    ) -> Result<Vec<(String, bool)>, Error> {
        let select = "SELECT name, is_default FROM privacy_lists
                       WHERE tenant_id = $1 AND user_id = $2 ORDER BY name";
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        Ok(select.fetch_all().await?)
    }

    /// Makes a list, or none, the default of a user. The logs that are to be driven.
    pub(crate) async fn set_default_list(
        &self,
        (tenant_id, user_id): (&TenantId, &UserId),
        name: Option<&ListName>,
    ) -> Result<Vec<LogId>, Error> {
        let mut tx = self.db.begin().await?;
        let person = lock_person(&mut tx, tenant_id, user_id).await?;
        let person = person.ok_or_else(|| Refused::no_user(user_id))?;
        let mut denied = BTreeMap::new();
        if let Some(name) = name {
            let list = find(&mut tx, tenant_id, user_id, name).await?;
            let list = list.ok_or(Refused::PrivacyListNotFound)?;
            let items = list.items.into_iter().filter(|item| item.denied);
            denied.extend(items.map(|item| (item.user_id, item.mutual)));
        }
        let set = "UPDATE privacy_lists SET is_default = (name = $3)
                    WHERE tenant_id = $1 AND user_id = $2 AND (is_default OR name = $3)";
        let set = tx.query(set).bind(tenant_id.as_str()).bind(user_id.as_str());
        set.bind(name.map_or("", ListName::as_str)).execute().await?;
        let before = blocks_of(&mut tx, tenant_id, user_id).await?;
        let silent = silent_blocks(&mut tx, tenant_id).await?;
        let changes = changes(before, denied, silent);
        let (owner, now) = ((tenant_id, user_id), self.clock.now());
        let log_ids = change_blocks(&mut tx, owner, person, &changes, now).await?;
        tx.commit().await?;
        Ok(log_ids)
    }
}

/// What is to hold of users where a list denies these, each mutually or not. Those of whom nothing
/// changes are named, too: their rooms may still have to be told.
fn changes(
    mut blocks: BTreeMap<UserId, Block>,
    denied: BTreeMap<UserId, bool>,
    silent: bool,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (other, mutual) in denied {
        let before = blocks.remove(&other);
        let after = before.unwrap_or(Block { silent, ..Block::default() });
        let after = Block { listed: true, mutual, ..after };
        changes.push(Change { other, before: before.unwrap_or_default(), after });
    }
    for (other, before) in blocks.into_iter().filter(|(_, block)| block.listed) {
        let after = Block { listed: false, mutual: false, ..before };
        changes.push(Change { other, before, after });
    }
    changes
}

async fn find(
    conn: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    name: &ListName,
) -> Result<Option<PrivacyList>, StoreError> {
    let select = "SELECT items, is_default FROM privacy_lists
                   WHERE tenant_id = $1 AND user_id = $2 AND name = $3";
    let select = conn.query(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    let found: Option<(String, bool)> = select.bind(name.as_str()).fetch_optional().await?;
    let list = |(json, is_default): (String, bool)| {
        Ok(PrivacyList { items: items(user_id, &json)?, is_default })
    };
    found.map(list).transpose()
}
