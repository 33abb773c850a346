//! Opening rosters, and with them their logs.

use std::collections::BTreeSet;

use parlance_db::{Conn, StoreError};
use parlance_outbox::{OutboxLog, enqueue, register};
use parlance_types::{Micros, RoomKind, TenantId, UserId};

use super::{live, lock_log, peers, take};
use crate::handler::Actor;
use crate::roster::{Grant, NewRoster, Refused, Roster, Rules, Step, may_open};
use crate::store::newcomers::ensure_users;
use crate::store::person::{lock_person, not_suspended};
use crate::store::{Done, Store, known_users};
use crate::{Error, codec};

/// A roster to be opened, and the event that creates its log.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) roster: NewRoster,
    pub(crate) created: codec::Event,
}

impl Store {
    /// Opens a roster. Opening the same one again has no effect.
    pub(crate) async fn open_roster(
        &self,
        actor: &Actor,
        opening: &Opening,
    ) -> Result<Done<()>, Error> {
        let Opening { roster: new, created } = opening;
        let done = Done { log_id: new.log_id, value: () };
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let ensure = new.ensure.iter().collect();
        let mut newcomers = ensure_users(&mut tx, &actor.tenant_id, &ensure, now).await?;
        if new.kind == RoomKind::Direct {
            // So that a block of one by the other sees the room, or is seen here.
            for user_id in new.members.iter().map(|member| &member.user_id).collect::<BTreeSet<_>>()
            {
                lock_person(&mut tx, &actor.tenant_id, user_id).await?;
            }
        }
        let seat = new.live.as_ref().and_then(|live| live.seat.as_ref());
        let mut from = live::From::Nowhere;
        if let Some(seat) = seat {
            let made = live::lock_user(&mut tx, &actor.tenant_id, &seat.user_id, now).await?;
            newcomers = newcomers.and(made);
            // A repeat finds the seats as the first one left them.
            if let Some(found) = lock_log(&mut tx, &actor.tenant_id, new.log_id).await? {
                return same_room(&found, new).map(|()| done);
            }
            from = live::lock_first(&mut tx, &actor.tenant_id, seat).await?;
        }
        let roster = Roster {
            log_id: new.log_id,
            tenant_id: actor.tenant_id.clone(),
            room_id: new.room_id.clone(),
            kind: new.kind,
            rules: new.rules,
            member_count: 0,
            closed: false,
            live: new.live.as_ref().map(|new| new.live),
            invited: 0,
            asking: 0,
        };
        let empty = new.live.as_ref().filter(|_| new.members.is_empty());
        let destroy_time = empty.map(|new| now.saturating_add(new.empty_timeout));
        if !insert(&mut tx, &roster, new.rules_version, destroy_time).await? {
            return match lock_log(&mut tx, &actor.tenant_id, new.log_id).await? {
                Some(found) => same_room(&found, new).map(|()| done),
                None => Err(Refused::RoomIdTaken.into()),
            };
        }
        let named: Vec<_> = new.members.iter().map(|member| &member.user_id).collect();
        let known = known_users(&mut tx, &actor.tenant_id, &named).await?;
        may_open(new.rules, &new.members, |user_id| known.contains(user_id))?;
        not_suspended(&mut tx, &actor.tenant_id, named.into_iter(), now).await?;
        let log = OutboxLog {
            log_id: roster.log_id,
            tenant_id: roster.tenant_id.clone(),
            room_id: roster.room_id.clone(),
            kind: codec::kind(roster.kind),
        };
        register(&mut tx, &log).await?;
        let mut events = vec![created.clone()];
        if !new.members.is_empty() {
            let joined = Step::Gained(new.members.clone());
            take(&mut tx, &roster, &joined, now).await?;
            events.push(codec::event(actor.user.as_ref(), &joined));
        }
        enqueue(&mut tx, new.log_id, &events).await?;
        if new.kind == RoomKind::Direct {
            peers::pair(&mut tx, &roster, &new.members).await?;
            peers::say_blocks(&mut tx, &roster, &new.members).await?;
        }
        if let Some(seat) = seat {
            live::seat(&mut tx, &roster, &seat.user_id, &seat.device, now).await?;
            live::give_up(&mut tx, from, seat, now).await?;
        }
        newcomers.admit(&mut tx, &actor.tenant_id).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// What opening a roster with these first members would be refused for.
    pub(crate) async fn check_roster(
        &self,
        tenant_id: &TenantId,
        rules: Rules,
        members: &[Grant],
        ensure: &[UserId],
    ) -> Result<(), Error> {
        let named: Vec<_> = members.iter().map(|member| member.user_id.clone()).collect();
        let known = self.users(tenant_id, &named).await?;
        may_open(rules, members, |user| known.contains_key(user) || ensure.contains(user))?;
        let mut conn = self.db.reader().await?;
        not_suspended(&mut conn, tenant_id, named.iter(), self.clock.now()).await
    }
}

/// A log has one room.
fn same_room(found: &Roster, new: &NewRoster) -> Result<(), Error> {
    if found.room_id == new.room_id { Ok(()) } else { Err(Refused::RoomIdTaken.into()) }
}

/// `false`: the log has a roster, or another open one holds the room.
async fn insert(
    tx: &mut Conn,
    roster: &Roster,
    version: i64,
    destroy_time: Option<Micros>,
) -> Result<bool, StoreError> {
    let insert = "INSERT INTO rosters
                    (log_id, tenant_id, room_id, kind, join_rule, add_rule, remove_rule, capacity,
                     rules_version, member_count, closed, peopled, destroy_delay, single_device,
                     destroy_time, watched)
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, FALSE, TRUE, $10, $11, $12, $13)
                  ON CONFLICT DO NOTHING";
    let Roster { log_id, tenant_id, room_id, kind, rules, live, .. } = roster;
    let insert = tx.query(insert).bind(log_id.0).bind(tenant_id.as_str()).bind(room_id.as_str());
    let insert = insert.bind(*kind as i16).bind(rules.join as i16).bind(rules.add as i16);
    let insert = insert.bind(rules.remove as i16).bind(rules.capacity).bind(version);
    let insert = insert.bind(live.map(|live| live.destroy_delay));
    let insert = insert.bind(live.is_some_and(|live| live.single_device)).bind(destroy_time);
    Ok(insert.bind(rules.watched).execute().await? == 1)
}
