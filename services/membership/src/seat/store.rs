//! Seats in SQL: entering, leaving and switching, each one transaction under the locks of its
//! rosters.

use std::collections::{BTreeMap, BTreeSet};

use parlance_db::{AssertSqlSafe, Conn, StoreError, rows};
use parlance_types::{LogId, Micros, Resource, RoomId, SessionId, TenantId, UserId};
use uuid::Uuid;

use super::{Endings, Left, Place, Seat, Seated, Switch, Switched};
use crate::Error;
use crate::roster::store::live::{
    Ended, Ending, check_limit, delete, end, holder, lock_user, seat,
};
use crate::roster::store::{lock_log, members, present, role, take_all};
use crate::roster::{Cause, Device, MemberRow, Membership, Refused, Roster, State, Step, enter};
use crate::store::{Done, Store};

mod due;

/// How many rooms one device is in at most, as far as leaving all of them goes.
const ROOMS: i64 = 100;

/// How many rosters are told of at once that ended by themselves.
const UNTOLD: i64 = 100;

/// A row of seats.
type Row = (Uuid, String, String, String, String, Micros);

impl Store {
    /// Gives a device of a user a seat. One that it holds already costs no write.
    pub(crate) async fn enter_seat(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        log_id: LogId,
        device: &Device,
        max_rooms: i64,
    ) -> Result<Done<Seated>, Error> {
        let mut reader = self.db.reader().await?;
        if let Some(value) = held(&mut reader, tenant_id, user_id, log_id, device).await? {
            return Ok(Done { log_id, value });
        }
        drop(reader);
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let newcomers = lock_user(&mut tx, tenant_id, user_id, now).await?;
        let roster = lock_log(&mut tx, tenant_id, log_id).await?;
        let roster = roster.filter(open).ok_or(Error::LogNotFound)?;
        let value = take_seat(&mut tx, &roster, user_id, device, Some(max_rooms), now).await?;
        newcomers.admit(&mut tx, tenant_id).await?;
        tx.commit().await?;
        Ok(Done { log_id, value })
    }

    /// Ends the seat of a device; whether the room has ended.
    pub(crate) async fn leave_seat(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        log_id: LogId,
        resource: &Resource,
    ) -> Result<Done<bool>, Error> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let roster = lock_log(&mut tx, tenant_id, log_id).await?;
        let roster = roster.filter(|roster| roster.live.is_some()).ok_or(Error::LogNotFound)?;
        if roster.closed {
            return Ok(Done { log_id, value: true });
        }
        let leaving = Ending::Of(user_id, resource);
        let ended = end(&mut tx, &roster, &leaving, Cause::Left, Some(user_id), now).await?;
        tx.commit().await?;
        Ok(Done { log_id, value: ended.room })
    }

    /// Ends all seats of a device, in one step.
    pub(crate) async fn leave_seats(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        resource: &Resource,
    ) -> Result<(Vec<LogId>, Vec<Left>), Error> {
        let now = self.clock.now();
        let select =
            "SELECT s.log_id FROM seats s JOIN rosters r ON r.log_id = s.log_id AND NOT r.closed
                      WHERE s.tenant_id = $1 AND s.user_id = $2 AND s.resource = $3
                      ORDER BY s.log_id LIMIT $4";
        let mut tx = self.db.begin().await?;
        let select = tx.query(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let found: Vec<(Uuid,)> = select.bind(resource.as_str()).bind(ROOMS).fetch_all().await?;
        let (mut log_ids, mut left) = (Vec::new(), Vec::new());
        for (log_id,) in found {
            let roster = lock_log(&mut tx, tenant_id, LogId(log_id)).await?;
            let Some(roster) = roster.filter(open) else { continue };
            let leaving = Ending::Of(user_id, resource);
            let Ended { any, room: ended } =
                end(&mut tx, &roster, &leaving, Cause::Left, Some(user_id), now).await?;
            if any {
                log_ids.push(roster.log_id);
                left.push(Left { log_id: roster.log_id, room_id: roster.room_id, ended });
            }
        }
        tx.commit().await?;
        Ok((log_ids, left))
    }

    /// Moves a device from one room to another. The logs are in the order in which they are
    /// to be told.
    pub(crate) async fn switch_seat(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        switch: &Switch,
    ) -> Result<(Vec<LogId>, Switched), Error> {
        let Switch { from, to, device } = switch;
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let newcomers = lock_user(&mut tx, tenant_id, user_id, now).await?;
        let mut locked = BTreeMap::new();
        for log_id in from.iter().chain([to]).collect::<BTreeSet<_>>() {
            locked.insert(log_id, lock_log(&mut tx, tenant_id, *log_id).await?);
        }
        let mut take = |log_id: &LogId| locked.remove(log_id).flatten();
        let entered = take(to).filter(open).ok_or(Error::LogNotFound)?;
        let left = from.as_ref().and_then(take);
        let log_ids: Vec<_> =
            std::iter::once(*to).chain(left.iter().map(|left| left.log_id)).collect();
        let leaving = Ending::Of(user_id, &device.resource);
        let seated = match left.as_ref().filter(|left| open(left)) {
            Some(left) => holder(&mut tx, left.log_id, user_id, &device.resource).await?.is_some(),
            None => false,
        };
        let from_ended = match left {
            Some(left) if seated => {
                let seated = take_seat(&mut tx, &entered, user_id, device, None, now).await?;
                let ended =
                    end(&mut tx, &left, &leaving, Cause::Switched, Some(user_id), now).await?;
                newcomers.admit(&mut tx, tenant_id).await?;
                tx.commit().await?;
                return Ok((log_ids, Switched { seated, from_ended: ended.room }));
            }
            left => left.is_none_or(|left| left.closed),
        };
        // A repeat finds the device where the first call brought it.
        let seated = held(&mut tx, tenant_id, user_id, *to, device).await?;
        let seated = seated.ok_or(Refused::SeatNotFound)?;
        Ok((log_ids, Switched { seated, from_ended }))
    }

    /// Refuses a user who is in so many live rooms already.
    pub(crate) async fn check_seat_limit(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        max_rooms: i64,
    ) -> Result<(), Error> {
        check_limit(&mut self.db.reader().await?, tenant_id, user_id, max_rooms).await
    }

    /// The rooms in which the sessions hold seats.
    pub(crate) async fn seats_of(
        &self,
        Endings { tenant_id, sessions, .. }: &Endings,
    ) -> Result<BTreeMap<LogId, Vec<(UserId, Device)>>, Error> {
        let wanted = rows(2, sessions.len(), "($1, $+, $+, $+)");
        let select = AssertSqlSafe(format!(
            "SELECT s.log_id, s.user_id, s.resource, s.session_id
             FROM (VALUES {wanted}) w JOIN seats s
               ON s.tenant_id = w.column1 AND s.user_id = w.column2 AND s.resource = w.column3
              AND s.session_id = w.column4"
        ));
        let mut select = self.db.read(select).once().bind(tenant_id.as_str());
        for (user_id, Device { resource, session_id }) in sessions {
            select = select.bind(user_id.as_str());
            select = select.bind(resource.as_str()).bind(session_id.as_str());
        }
        let found: Vec<(Uuid, String, String, String)> = select.fetch_all().await?;
        let mut seats: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (log_id, user_id, resource, session_id) in found {
            let device = Device {
                resource: Resource::new(resource),
                session_id: SessionId::new(session_id),
            };
            seats.entry(LogId(log_id)).or_default().push((UserId::new(user_id), device));
        }
        Ok(seats)
    }

    /// Ends those seats of a room that the sessions still hold.
    pub(crate) async fn end_seats(
        &self,
        tenant_id: &TenantId,
        log_id: LogId,
        sessions: &[(UserId, Device)],
        cause: Cause,
    ) -> Result<Done<()>, Error> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        if let Some(roster) = lock_log(&mut tx, tenant_id, log_id).await? {
            let ending = Ending::Held(sessions);
            if open(&roster) {
                end(&mut tx, &roster, &ending, cause, None, now).await?;
            } else {
                delete(&mut tx, log_id, &ending).await?;
            }
            tx.commit().await?;
        }
        Ok(Done { log_id, value: () })
    }

    /// The first `limit` seats of all tenants behind a place.
    pub(crate) async fn seats(&self, after: &Place, limit: usize) -> Result<Vec<Seat>, Error> {
        let select = "SELECT log_id, user_id, resource, tenant_id, session_id, enter_time
                      FROM seats WHERE (log_id, user_id, resource) > ($1, $2, $3)
                      ORDER BY log_id, user_id, resource LIMIT $4";
        let Place { log_id, user_id, resource } = after;
        let select = self.db.read(select).bind(log_id.0).bind(user_id.as_str());
        let select = select.bind(resource.as_str()).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let found: Vec<Row> = select.fetch_all().await?;
        let seat = |(log_id, user_id, resource, tenant_id, session_id, entered): Row| Seat {
            tenant_id: TenantId::new(tenant_id),
            at: Place {
                log_id: LogId(log_id),
                user_id: UserId::new(user_id),
                resource: Resource::new(resource),
            },
            session_id: SessionId::new(session_id),
            entered,
        };
        Ok(found.into_iter().map(seat).collect())
    }

    /// Rosters that ended by themselves and that nobody has acknowledged.
    pub(crate) async fn untold(&self) -> Result<Vec<LogId>, Error> {
        let select = "SELECT log_id FROM rosters WHERE untold LIMIT $1";
        let found: Vec<(Uuid,)> = self.db.read(select).bind(UNTOLD).fetch_all().await?;
        Ok(found.into_iter().map(|(log_id,)| LogId(log_id)).collect())
    }

    /// Notes that the end of rosters is known.
    pub(crate) async fn told(&self, log_ids: &[LogId]) -> Result<(), Error> {
        let tell = "UPDATE rosters SET untold = FALSE WHERE untold AND log_id IN ($1..)";
        let tell = self.db.write(tell).bind_list(log_ids.iter().map(|log_id| log_id.0));
        tell.execute().await?;
        Ok(())
    }
}

/// A live room that one may enter.
fn open(roster: &Roster) -> bool {
    roster.live.is_some() && !roster.closed
}

/// Lets a user into a locked roster with a device. The user is locked, too.
async fn take_seat(
    tx: &mut Conn,
    roster: &Roster,
    user_id: &UserId,
    device: &Device,
    max_rooms: Option<i64>,
    now: Micros,
) -> Result<Seated, Error> {
    let mut rows = members(tx, roster.log_id, &[user_id]).await?;
    let row = rows.remove(user_id);
    let is_in = row.is_some_and(|row| row.state == State::Present);
    if let Some(max_rooms) = max_rooms.filter(|_| !is_in) {
        check_limit(tx, &roster.tenant_id, user_id, max_rooms).await?;
    }
    let row = match enter(roster, user_id, row.as_ref())? {
        Some(grant) => {
            let role = grant.role;
            let joined = [Step::Gained(vec![grant])];
            take_all(tx, roster, Some(user_id), &joined, now).await?;
            MemberRow { role, state: State::Present, joined: now }
        }
        None => row.expect("whoever is in has a row"),
    };
    let replaced = seat(tx, roster, user_id, device, now).await?;
    Ok(Seated { membership: Membership::of(&roster.room_id, user_id, &row), replaced })
}

/// A user whose device has a seat in an open room, held by its session.
async fn held(
    conn: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    log_id: LogId,
    Device { resource, session_id }: &Device,
) -> Result<Option<Seated>, StoreError> {
    let select = concat!(
        "SELECT r.room_id, m.role, m.join_time
           FROM seats s JOIN members m ON m.log_id = $1 AND m.user_id = $2 AND m.",
        present!(),
        " JOIN rosters r ON r.log_id = $1 AND NOT r.closed
          WHERE s.log_id = $1 AND s.user_id = $2 AND s.resource = $3 AND s.session_id = $4
            AND r.tenant_id = $5"
    );
    let select = conn.query(select).bind(log_id.0).bind(user_id.as_str());
    let select = select.bind(resource.as_str()).bind(session_id.as_str());
    let found: Option<(String, i16, Micros)> =
        select.bind(tenant_id.as_str()).fetch_optional().await?;
    let Some((room_id, stored_role, joined)) = found else { return Ok(None) };
    let (room_id, user_id) = (RoomId::new(room_id), user_id.clone());
    let membership = Membership { room_id, user_id, role: role(log_id, stored_role)?, joined };
    Ok(Some(Seated { membership, replaced: Vec::new() }))
}
