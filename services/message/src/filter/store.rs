//! Content filters in SQL: a row for each tenant that has one.

use parlance_db::{Db, Stored as StoredRow};
use parlance_types::{FilterWord, TenantId};
use uuid::Uuid;

use super::{Action, ContentFilter, Stored};
use crate::Error;

/// Which list a tenant has.
pub(super) async fn id(db: &Db, tenant_id: &TenantId) -> Result<Option<Uuid>, Error> {
    let select = "SELECT list_id FROM content_filters WHERE tenant_id = $1";
    let found: Option<(Uuid,)> = db.read(select).bind(tenant_id.as_str()).fetch_optional().await?;
    Ok(found.map(|(id,)| id))
}

pub(super) async fn get(db: &Db, tenant_id: &TenantId) -> Result<Option<Stored>, Error> {
    let select = "SELECT list_id, action, words FROM content_filters WHERE tenant_id = $1";
    let found: Option<(Uuid, i16, String)> =
        db.read(select).bind(tenant_id.as_str()).fetch_optional().await?;
    let Some((id, action, words)) = found else { return Ok(None) };
    let row = StoredRow { table: "content_filters", row: id };
    let action = row.value("action", Action::from_i16(action))?;
    let words = words.lines().map(FilterWord::parse).collect::<Result<_, _>>();
    let words = row.value("words", words.ok())?;
    Ok(Some(Stored { id, filter: ContentFilter { words, action } }))
}

/// Puts a filter; one without words is none.
pub(super) async fn put(
    db: &Db,
    tenant_id: &TenantId,
    ContentFilter { words, action }: &ContentFilter,
) -> Result<(), Error> {
    if words.is_empty() {
        let delete = "DELETE FROM content_filters WHERE tenant_id = $1";
        db.write(delete).bind(tenant_id.as_str()).execute().await?;
        return Ok(());
    }
    let words: Vec<_> = words.iter().map(FilterWord::as_str).collect();
    let put = "INSERT INTO content_filters (tenant_id, list_id, action, words)
               VALUES ($1, $2, $3, $4)
               ON CONFLICT (tenant_id) DO UPDATE SET list_id = excluded.list_id,
                      action = excluded.action, words = excluded.words";
    let put = db.write(put).bind(tenant_id.as_str()).bind(Uuid::from_u128(rand::random()));
    put.bind(*action as i16).bind(words.join("\n")).execute().await?;
    Ok(())
}
