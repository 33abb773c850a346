//! What the store of rosters knows of live rooms: the seats that make members, and the end of a
//! room that nobody is in.
//!
//! Locks are taken in one order: the user's row in the directory, then rosters by the ids of
//! their logs, then a roster that is new.

use std::collections::BTreeSet;

use parlance_db::{AssertSqlSafe, Conn, StoreError, rows};
use parlance_types::{LogId, Micros, Resource, TenantId, UserId};

use super::{lock_log, take_all};
use crate::Error;
use crate::roster::{Cause, Device, FirstSeat, Live, Refused, Roster, Step};
use crate::store::newcomers::Newcomers;

/// Where the device comes from that takes the first seat of a new room.
#[derive(Debug)]
pub(crate) enum From {
    Nowhere,
    /// The roster is locked, and the device has a seat in it.
    Room(Roster),
}

/// Which seats of a roster end.
#[derive(Clone, Debug)]
pub(crate) enum Ending<'a> {
    /// That of a device, whatever session holds it.
    Of(&'a UserId, &'a Resource),
    /// Those that are held by exactly these sessions.
    Held(&'a [(UserId, Device)]),
}

/// What came of seats that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whether there was any.
    pub(crate) any: bool,
    /// Whether the room ended with them.
    pub(crate) room: bool,
}

/// Locks a user, who comes into being if need be: in how many rooms they are does not change
/// until the transaction ends, except that they leave some.
pub(crate) async fn lock_user(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    now: Micros,
) -> Result<Newcomers, StoreError> {
    let lock = "INSERT INTO users (tenant_id, user_id, name, picture, metadata, create_time,
                                   update_time)
                VALUES ($1, $2, '', '', '{}', $3, $3)
                ON CONFLICT (tenant_id, user_id) DO UPDATE SET existed = TRUE
                RETURNING existed";
    let lock = tx.query(lock).bind(tenant_id.as_str()).bind(user_id.as_str());
    let (existed,): (bool,) = lock.bind(now).fetch_one().await?;
    Ok(Newcomers::new(usize::from(!existed)))
}

/// Refuses a user who is in so many live rooms already.
pub(crate) async fn check_limit(
    conn: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    max_rooms: i64,
) -> Result<(), Error> {
    let count = "SELECT COUNT(DISTINCT s.log_id)
                   FROM seats s JOIN rosters r ON r.log_id = s.log_id AND NOT r.closed
                  WHERE s.tenant_id = $1 AND s.user_id = $2";
    let count = conn.query(count).bind(tenant_id.as_str()).bind(user_id.as_str());
    let (rooms,): (i64,) = count.fetch_one().await?;
    if rooms < max_rooms { Ok(()) } else { Err(Refused::RoomLimit { max_rooms }.into()) }
}

/// What the first seat of a new room needs before the room is made. The user is locked.
pub(super) async fn lock_first(
    tx: &mut Conn,
    tenant_id: &TenantId,
    seat: &FirstSeat,
) -> Result<From, Error> {
    let FirstSeat { user_id, device, max_rooms, from } = seat;
    check_limit(tx, tenant_id, user_id, *max_rooms).await?;
    let Some(from) = from else { return Ok(From::Nowhere) };
    let roster = lock_log(tx, tenant_id, *from).await?;
    let roster = roster.filter(|roster| !roster.closed).ok_or(Refused::SeatNotFound)?;
    if holder(tx, *from, user_id, &device.resource).await?.is_none() {
        return Err(Refused::SeatNotFound.into());
    }
    Ok(From::Room(roster))
}

/// Ends the seat that the first one of a new room comes from.
pub(super) async fn give_up(
    tx: &mut Conn,
    from: From,
    seat: &FirstSeat,
    now: Micros,
) -> Result<(), Error> {
    let From::Room(roster) = from else { return Ok(()) };
    let ending = Ending::Of(&seat.user_id, &seat.device.resource);
    end(tx, &roster, &ending, Cause::Switched, Some(&seat.user_id), now).await.map(drop)
}

/// The session that holds the seat of a device.
pub(crate) async fn holder(
    tx: &mut Conn,
    log_id: LogId,
    user_id: &UserId,
    resource: &Resource,
) -> Result<Option<String>, StoreError> {
    let select = "SELECT session_id FROM seats
                  WHERE log_id = $1 AND user_id = $2 AND resource = $3";
    let select = tx.query(select).bind(log_id.0).bind(user_id.as_str());
    let found: Option<(String,)> = select.bind(resource.as_str()).fetch_optional().await?;
    Ok(found.map(|(session_id,)| session_id))
}

/// Gives a device of a member a seat in a locked roster. Other devices of theirs that lost
/// theirs to it.
pub(crate) async fn seat(
    tx: &mut Conn,
    roster: &Roster,
    user_id: &UserId,
    device: &Device,
    now: Micros,
) -> Result<Vec<Resource>, StoreError> {
    let Device { resource, session_id } = device;
    let put = "INSERT INTO seats (log_id, user_id, resource, tenant_id, session_id, enter_time)
               VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (log_id, user_id, resource) DO UPDATE
                 SET session_id = excluded.session_id, enter_time = excluded.enter_time";
    let put = tx.query(put).bind(roster.log_id.0).bind(user_id.as_str()).bind(resource.as_str());
    let put = put.bind(roster.tenant_id.as_str()).bind(session_id.as_str()).bind(now);
    put.execute().await?;
    let Some(Live { single_device: true, .. }) = roster.live else { return Ok(Vec::new()) };
    let others = "DELETE FROM seats WHERE log_id = $1 AND user_id = $2 AND resource <> $3
                  RETURNING resource";
    let others = tx.query(others).bind(roster.log_id.0).bind(user_id.as_str());
    let others: Vec<(String,)> = others.bind(resource.as_str()).fetch_all().await?;
    Ok(others.into_iter().map(|(resource,)| Resource::new(resource)).collect())
}

/// Ends seats of a locked roster that is open. Who has none left by that has left.
pub(crate) async fn end(
    tx: &mut Conn,
    roster: &Roster,
    ending: &Ending<'_>,
    cause: Cause,
    actor: Option<&UserId>,
    now: Micros,
) -> Result<Ended, Error> {
    let losing = delete(tx, roster.log_id, ending).await?;
    if losing.is_empty() {
        return Ok(Ended::default());
    }
    let staying = seated(tx, roster.log_id, &losing).await?;
    let user_ids: Vec<_> = losing.difference(&staying).cloned().collect();
    if user_ids.is_empty() {
        return Ok(Ended { any: true, room: false });
    }
    let steps = [Step::Lost { user_ids, cause, reason: String::new() }];
    let room = take_all(tx, roster, actor, &steps, now).await?;
    Ok(Ended { any: true, room })
}

/// Deletes seats and returns whose they were.
pub(crate) async fn delete(
    tx: &mut Conn,
    log_id: LogId,
    ending: &Ending<'_>,
) -> Result<BTreeSet<UserId>, StoreError> {
    let deleted: Vec<(String,)> = match ending {
        Ending::Of(user_id, resource) => {
            let delete = "DELETE FROM seats WHERE log_id = $1 AND user_id = $2 AND resource = $3
                          RETURNING user_id";
            let delete = tx.query(delete).bind(log_id.0).bind(user_id.as_str());
            delete.bind(resource.as_str()).fetch_all().await?
        }
        Ending::Held(sessions) => {
            let held = rows(2, sessions.len(), "($1, $+, $+, $+)");
            let delete = AssertSqlSafe(format!(
                "DELETE FROM seats WHERE (log_id, user_id, resource, session_id) IN (VALUES {held})
                 RETURNING user_id"
            ));
            let delete = tx.query(delete).bind(log_id.0);
            // As many texts as there are lengths.
            let mut delete = if sessions.len() == 1 { delete } else { delete.once() };
            for (user_id, Device { resource, session_id }) in *sessions {
                delete = delete.bind(user_id.as_str());
                delete = delete.bind(resource.as_str()).bind(session_id.as_str());
            }
            delete.fetch_all().await?
        }
    };
    Ok(deleted.into_iter().map(|(user_id,)| UserId::new(user_id)).collect())
}

/// Those of the users who have a seat.
async fn seated(
    tx: &mut Conn,
    log_id: LogId,
    user_ids: &BTreeSet<UserId>,
) -> Result<BTreeSet<UserId>, StoreError> {
    let select = "SELECT DISTINCT user_id FROM (VALUES ($1, $2..)) w JOIN seats
                      ON log_id = w.column1 AND user_id = w.column2";
    let found = tx.query(select).bind(log_id.0);
    let found: Vec<(String,)> =
        found.bind_list(user_ids.iter().map(UserId::as_str)).fetch_all().await?;
    Ok(found.into_iter().map(|(user_id,)| UserId::new(user_id)).collect())
}

/// Takes all devices of users who are no members any more out of a room.
pub(super) async fn clear_seats(
    tx: &mut Conn,
    log_id: LogId,
    user_ids: &[UserId],
) -> Result<(), StoreError> {
    let clear = "DELETE FROM seats WHERE (log_id, user_id) IN (VALUES ($1, $2..))";
    let clear = tx.query(clear).bind(log_id.0);
    clear.bind_list(user_ids.iter().map(UserId::as_str)).execute().await.map(drop)
}

/// Ends a locked live room that nobody is in any more, or lets it wait; whether it ended.
pub(super) async fn await_or_end(
    tx: &mut Conn,
    roster: &Roster,
    now: Micros,
) -> Result<bool, StoreError> {
    let Some(Live { destroy_delay, .. }) = roster.live else { return Ok(false) };
    let log_id = roster.log_id.0;
    if destroy_delay == 0 {
        // It holds nobody: no membership is left to be ended.
        let end = "UPDATE rosters SET closed = TRUE, peopled = FALSE, untold = TRUE
                   WHERE log_id = $1";
        tx.query(end).bind(log_id).execute().await?;
    } else {
        let wait = "UPDATE rosters SET destroy_time = $2 WHERE log_id = $1";
        tx.query(wait).bind(log_id).bind(now.saturating_add(destroy_delay)).execute().await?;
    }
    Ok(destroy_delay == 0)
}
