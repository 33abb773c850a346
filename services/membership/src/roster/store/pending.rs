//! What waits for an answer before a user is a member. The row of the roster counts it, so a
//! room in which nothing waits is not searched for it.

use std::collections::BTreeSet;

use parlance_db::{AssertSqlSafe, Conn, StoreError, rows};
use parlance_types::{LogId, Micros, RoomId, TenantId, UserId};

use super::look;
use crate::Error;
use crate::roster::{Pending, Refused, Roster, in_groups_and_channels, may_add};
use crate::store::Store;

/// The most of a kind that wait in a room, and of a user in all rooms.
const MOST_IN_ROOM: i64 = 1000;
const MOST_OF_USER: i64 = 100;

/// What waits, with what was said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) room_id: String,
    pub(crate) user_id: String,
    /// Empty: nobody, or the user.
    pub(crate) actor_id: String,
    pub(crate) text: String,
    pub(crate) created: Micros,
}

type Row = (String, String, String, String, Micros);

fn waiting((room_id, user_id, actor_id, text, created): Row) -> Waiting {
    Waiting { room_id, user_id, actor_id, text, created }
}

/// Lets something wait for users for whom nothing of the kind does.
pub(crate) async fn put(
    tx: &mut Conn,
    roster: &Roster,
    kind: Pending,
    user_ids: &[UserId],
    (actor_id, text, now): (&str, &str, Micros),
) -> Result<(), Error> {
    let more = i64::try_from(user_ids.len()).unwrap_or(i64::MAX);
    if roster.waiting(kind).saturating_add(more) > MOST_IN_ROOM {
        return Err(Refused::TooManyPending { kind, user_id: None }.into());
    }
    if let Some(user_id) = waits_enough(tx, &roster.tenant_id, kind, user_ids).await? {
        return Err(Refused::TooManyPending { kind, user_id: Some(user_id) }.into());
    }
    let put = rows(8, user_ids.len(), "($1, $2, $+, $3, $4, $5, $6, $7)");
    let insert = AssertSqlSafe(format!(
        "INSERT INTO pending (log_id, kind, user_id, tenant_id, room_id, actor_id, text,
                              create_time)
         VALUES {put}"
    ));
    let insert = tx.query(insert).bind(roster.log_id.0).bind(kind as i16);
    let insert = insert.bind(roster.tenant_id.as_str()).bind(roster.room_id.as_str());
    let insert = insert.bind(actor_id).bind(text).bind(now);
    // As many texts as there are lengths.
    let mut insert = if user_ids.len() == 1 { insert } else { insert.once() };
    for user_id in user_ids {
        insert = insert.bind(user_id.as_str());
    }
    insert.execute().await?;
    Ok(count(tx, roster.log_id, kind, more).await?)
}

/// One of the users for whom as many wait as may, if there is one. It is looked at without a
/// lock of theirs: several rooms at once may come to a few more.
async fn waits_enough(
    tx: &mut Conn,
    tenant_id: &TenantId,
    kind: Pending,
    user_ids: &[UserId],
) -> Result<Option<UserId>, StoreError> {
    let select = "SELECT w.column2 FROM (VALUES ($1, $4..)) w
                  WHERE (SELECT COUNT(*) FROM pending p
                          WHERE p.tenant_id = w.column1 AND p.user_id = w.column2
                            AND p.kind = $2) >= $3
                  LIMIT 1";
    let select = tx.query(select).bind(tenant_id.as_str()).bind(kind as i16).bind(MOST_OF_USER);
    let found: Option<(String,)> =
        select.bind_list(user_ids.iter().map(UserId::as_str)).fetch_optional().await?;
    Ok(found.map(|(user_id,)| UserId::new(user_id)))
}

/// Says something else to what waits for a user; since when it waits. `None`: nothing does.
pub(crate) async fn say(
    tx: &mut Conn,
    log_id: LogId,
    kind: Pending,
    user_id: &UserId,
    text: &str,
) -> Result<Option<Micros>, StoreError> {
    let say = "UPDATE pending SET text = $4 WHERE log_id = $1 AND kind = $2 AND user_id = $3
               RETURNING create_time";
    let say = tx.query(say).bind(log_id.0).bind(kind as i16).bind(user_id.as_str());
    let found: Option<(Micros,)> = say.bind(text).fetch_optional().await?;
    Ok(found.map(|(created,)| created))
}

/// Those of the users for whom it waits.
pub(crate) async fn found(
    tx: &mut Conn,
    log_id: LogId,
    kind: Pending,
    user_ids: &[UserId],
) -> Result<BTreeSet<UserId>, StoreError> {
    let select = "SELECT user_id FROM (VALUES ($2, $1, $3..)) w JOIN pending
                    ON log_id = w.column1 AND kind = w.column2 AND user_id = w.column3";
    let select = tx.query(select).bind(kind as i16).bind(log_id.0);
    let found: Vec<(String,)> =
        select.bind_list(user_ids.iter().map(UserId::as_str)).fetch_all().await?;
    Ok(found.into_iter().map(|(user_id,)| UserId::new(user_id)).collect())
}

/// Ends what waits for users; those for whom it did, in their order.
async fn end(
    tx: &mut Conn,
    log_id: LogId,
    kind: Pending,
    user_ids: &[&UserId],
) -> Result<Vec<UserId>, StoreError> {
    let delete = "DELETE FROM pending WHERE (kind, log_id, user_id) IN (VALUES ($1, $2, $3..))
                  RETURNING user_id";
    let delete = tx.query(delete).bind(kind as i16).bind(log_id.0);
    let ended: Vec<(String,)> =
        delete.bind_list(user_ids.iter().map(|id| id.as_str())).fetch_all().await?;
    let ended: BTreeSet<_> = ended.into_iter().map(|(user_id,)| user_id).collect();
    if !ended.is_empty() {
        count(tx, log_id, kind, -i64::try_from(ended.len()).unwrap_or(i64::MAX)).await?;
    }
    Ok(user_ids.iter().filter(|id| ended.contains(id.as_str())).copied().cloned().collect())
}

/// Ends what waits for users, for somebody who may let them in.
pub(crate) async fn refuse(
    tx: &mut Conn,
    roster: Roster,
    actor: Option<&UserId>,
    kind: Pending,
    user_ids: &[UserId],
) -> Result<Vec<UserId>, Error> {
    let locked = look(tx, roster, actor).await?;
    may_add(&locked.roster, locked.viewer(actor))?;
    let user_ids: Vec<_> = user_ids.iter().collect();
    Ok(end(tx, locked.roster.log_id, kind, &user_ids).await?)
}

/// Ends what waits for a user, for that user.
pub(crate) async fn give_up(
    tx: &mut Conn,
    roster: Roster,
    kind: Pending,
    user_id: &UserId,
) -> Result<Vec<UserId>, Error> {
    let locked = look(tx, roster, [user_id]).await?;
    in_groups_and_channels(&locked.roster, locked.viewer(Some(user_id)))?;
    Ok(end(tx, locked.roster.log_id, kind, &[user_id]).await?)
}

/// Ends whatever waits for users who become members, or are kept out from now on.
pub(crate) async fn settle(
    tx: &mut Conn,
    roster: &Roster,
    user_ids: impl Iterator<Item = &UserId>,
) -> Result<(), StoreError> {
    let user_ids: Vec<_> = user_ids.collect();
    for kind in [Pending::Invitation, Pending::Request] {
        if roster.waiting(kind) > 0 {
            end(tx, roster.log_id, kind, &user_ids).await?;
        }
    }
    Ok(())
}

/// Counts what came, or went, of a kind.
async fn count(tx: &mut Conn, log_id: LogId, kind: Pending, by: i64) -> Result<(), StoreError> {
    let count = match kind {
        Pending::Invitation => "UPDATE rosters SET invited = invited + $2 WHERE log_id = $1",
        Pending::Request => "UPDATE rosters SET asking = asking + $2 WHERE log_id = $1",
    };
    tx.query(count).bind(log_id.0).bind(by).execute().await.map(drop)
}

impl Store {
    /// What waits in a room for the first `limit` users above `after`, by user id.
    pub(crate) async fn pending_in(
        &self,
        log_id: LogId,
        kind: Pending,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Waiting>, Error> {
        let select = "SELECT room_id, user_id, actor_id, text, create_time FROM pending
                      WHERE log_id = $1 AND kind = $2 AND user_id > $3 ORDER BY user_id LIMIT $4";
        let select = self.db.read(select).bind(log_id.0).bind(kind as i16);
        let select = select.bind(after.map_or("", UserId::as_str));
        let found = select.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all().await?;
        Ok(found.into_iter().map(waiting).collect())
    }

    /// What waits for a user in the first `limit` rooms above `after`, by room id.
    pub(crate) async fn pending_of(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        kind: Pending,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<Waiting>, Error> {
        let select = "SELECT p.room_id, p.user_id, p.actor_id, p.text, p.create_time
                        FROM pending p JOIN rosters r ON r.log_id = p.log_id AND NOT r.closed
                       WHERE p.tenant_id = $1 AND p.user_id = $2 AND p.kind = $3
                         AND p.room_id > $4 ORDER BY p.room_id LIMIT $5";
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let select = select.bind(kind as i16).bind(after.map_or("", RoomId::as_str));
        let found = select.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all().await?;
        Ok(found.into_iter().map(waiting).collect())
    }
}
