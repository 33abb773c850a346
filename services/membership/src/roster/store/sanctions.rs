//! Who is kept out. Every way into a room passes here.

use parlance_db::{Conn, StoreError};
use parlance_types::{LogId, Micros, RoomKind, UserId};

use crate::Error;
use crate::roster::{FOR_EVER, Grant, Refused, Roster, Sanction};

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

/// Refuses newcomers who are banned. A ban that has ended counts no more.
pub(super) async fn keep_banned_out(
    tx: &mut Conn,
    roster: &Roster,
    newcomers: &[Grant],
    now: Micros,
) -> Result<(), Error> {
    // Nobody is banned from a direct room.
    if roster.kind == RoomKind::Direct {
        return Ok(());
    }
    let user_ids = newcomers.iter().map(|grant| &grant.user_id);
    let bans = sanctions(tx, roster.log_id, Sanction::Ban, user_ids).await?;
    match bans.into_iter().find(|(_, until, _)| *until > now) {
        Some((user_id, until, _)) => {
            let until = (until != FOR_EVER).then_some(until);
            Err(Refused::Banned { user_id: user_id.into_string(), until }.into())
        }
        None => Ok(()),
    }
}
