//! What was laid on users. Every way into a room passes here.

use parlance_db::{Conn, StoreError};
use parlance_types::{LogId, Micros, RoomKind, UserId};

use crate::Error;
use crate::roster::{FOR_EVER, Refused, Roster, Sanction};
use crate::store::person::not_suspended;

/// What was laid on those of the users, ended or not.
pub(crate) async fn sanctions(
    tx: &mut Conn,
    log_id: LogId,
    kind: Sanction,
    user_ids: impl Iterator<Item = &UserId>,
) -> Result<Vec<(UserId, Micros, String)>, StoreError> {
    let select = "SELECT user_id, until, reason FROM (VALUES ($2, $1, $3..)) w JOIN sanctions
                    ON log_id = w.column1 AND kind = w.column2 AND user_id = w.column3
                  ORDER BY user_id";
    let select = tx.query(select).bind(kind as i16).bind(log_id.0);
    let found: Vec<(String, Micros, String)> =
        select.bind_list(user_ids.map(UserId::as_str)).fetch_all().await?;
    Ok(found.into_iter().map(|(id, until, reason)| (UserId::new(id), until, reason)).collect())
}

/// Refuses newcomers who are suspended or banned; those who are muted, and until when. What has ended
/// counts no more.
pub(crate) async fn judge(
    tx: &mut Conn,
    roster: &Roster,
    newcomers: impl Iterator<Item = &UserId>,
    now: Micros,
) -> Result<Vec<(UserId, Micros)>, Error> {
    let newcomers: Vec<&UserId> = newcomers.collect();
    not_suspended(tx, &roster.tenant_id, newcomers.iter().copied(), now).await?;
    // Nothing else is laid on the users of a direct room.
    if roster.kind == RoomKind::Direct {
        return Ok(Vec::new());
    }
    let select = "SELECT user_id, kind, until FROM (VALUES ($1, $2..)) w JOIN sanctions
                    ON log_id = w.column1 AND user_id = w.column2
                  ORDER BY user_id";
    let user_ids = newcomers.into_iter().map(UserId::as_str);
    let found = tx.query(select).bind(roster.log_id.0).bind_list(user_ids).fetch_all();
    let found: Vec<(String, i16, Micros)> = found.await?;
    let mut mutes = Vec::new();
    for (user_id, kind, until) in found.into_iter().filter(|(.., until)| *until > now) {
        if kind == Sanction::Ban as i16 {
            let until = (until != FOR_EVER).then_some(until);
            return Err(Refused::Banned { user_id, until }.into());
        }
        mutes.push((UserId::new(user_id), until));
    }
    Ok(mutes)
}
