//! Rosters in SQL: the row of a roster is the lock of everything about it.

use std::collections::{BTreeMap, BTreeSet};

use parlance_db::{AssertSqlSafe, Conn, Joined, StoreError, Stored, rows};
use parlance_outbox::enqueue;
use parlance_types::{
    JoinRule, LogId, MemberRule, Micros, Role, RoomId, RoomKind, TenantId, UserId,
};
use uuid::Uuid;

use super::{Cause, Grant, Live, LockedRoster, MemberRow, Roster, Rules, State, Step, admit};
use crate::handler::{Actor, MAX_LIST};
use crate::store::newcomers::ensure_users;
use crate::store::{Done, Store};
use crate::{Error, codec};

mod act;
mod changed;
mod ended;
mod left;
pub(crate) mod live;
mod open;
pub(crate) mod peers;
pub(crate) mod pending;
mod sanctions;

pub(crate) use act::{Act, Asked};
pub(crate) use open::Opening;
pub(crate) use pending::Waiting;
pub(crate) use sanctions::{judge, sanctions};

/// Members that are present. Not bound: indexes are of these rows only, and are found by
/// their condition.
macro_rules! present {
    () => {
        "state = 1"
    };
}
pub(crate) use present;

const _: () = assert!(State::Present as i16 == 1 && State::Stayed as i16 == 4);
const _: () = assert!(Role::Owner as i16 == 3);

/// How many owners are counted: more than one request can take from a room.
const OWNERS: i64 = 101;
const _: () = assert!(MAX_LIST == 100);

macro_rules! roster_columns {
    () => {
        "rosters.log_id, rosters.tenant_id, rosters.room_id, kind, join_rule, add_rule, remove_rule,
         capacity, member_count, closed, destroy_delay, single_device, invited, asking, watched"
    };
}

mod first;

parlance_db::row! {
    /// A row of rosters.
    struct RosterRow {
    log_id: Uuid,
    tenant_id: String,
    room_id: String,
    kind: i16,
    join_rule: i16,
    add_rule: i16,
    remove_rule: i16,
    capacity: i32,
    member_count: i64,
    closed: bool,
    destroy_delay: Option<i64>,
    single_device: bool,
    invited: i64,
    asking: i64,
    watched: bool,
}
}

parlance_db::row! {
    /// What a roster keeps of the viewer, if anything.
    struct SeenRow {
    role: Option<i16>,
    state: Option<i16>,
    join_time: Option<i64>,
}
}

impl RosterRow {
    fn roster(self) -> Result<Roster, StoreError> {
        let row = Stored { table: "rosters", row: self.log_id };
        let member_rule = |column, rule| row.value(column, MemberRule::from_i16(rule));
        Ok(Roster {
            log_id: LogId(self.log_id),
            kind: row.value("kind", RoomKind::from_i16(self.kind))?,
            rules: Rules {
                join: row.value("join_rule", JoinRule::from_i16(self.join_rule))?,
                add: member_rule("add_rule", self.add_rule)?,
                remove: member_rule("remove_rule", self.remove_rule)?,
                capacity: self.capacity,
                watched: self.watched,
            },
            tenant_id: TenantId::new(self.tenant_id),
            room_id: RoomId::new(self.room_id),
            member_count: self.member_count,
            closed: self.closed,
            live: self
                .destroy_delay
                .map(|destroy_delay| Live { destroy_delay, single_device: self.single_device }),
            invited: self.invited,
            asking: self.asking,
        })
    }
}

/// The role in a row of members.
pub(crate) fn role(log_id: LogId, role: i16) -> Result<Role, StoreError> {
    Stored { table: "members", row: log_id }.value("role", Role::from_i16(role))
}

fn member(
    log_id: LogId,
    (stored_role, state, joined): (i16, i16, Micros),
) -> Result<MemberRow, StoreError> {
    let state = Stored { table: "members", row: log_id }.value("state", State::from_i16(state))?;
    Ok(MemberRow { role: role(log_id, stored_role)?, state, joined })
}

impl Store {
    /// Makes users members whatever the rules say; those who do not exist come into being.
    pub(crate) async fn ensure_members(
        &self,
        actor: &Actor,
        log_id: LogId,
        user_ids: &[UserId],
        readmit: bool,
    ) -> Result<Done<()>, Error> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let users = user_ids.iter().collect();
        let newcomers = ensure_users(&mut tx, &actor.tenant_id, &users, now).await?;
        let roster = lock_log(&mut tx, &actor.tenant_id, log_id).await?;
        let roster = roster.filter(|roster| !roster.closed).ok_or(Error::LogNotFound)?;
        let locked = look(&mut tx, roster, user_ids).await?;
        let gained = admit(&locked, user_ids, readmit)?;
        if !gained.is_empty() {
            let steps = [Step::Gained(gained)];
            take_all(&mut tx, &locked.roster, actor.user.as_ref(), &steps, now).await?;
        }
        newcomers.admit(&mut tx, &actor.tenant_id).await?;
        tx.commit().await?;
        Ok(Done { log_id, value: () })
    }

    /// Replaces the rules, unless later ones are known.
    pub(crate) async fn set_rules(
        &self,
        tenant_id: &TenantId,
        log_id: LogId,
        rules: Rules,
        version: i64,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let roster = lock_log(&mut tx, tenant_id, log_id).await?;
        roster.filter(|roster| !roster.closed).ok_or(Error::LogNotFound)?;
        let update = "UPDATE rosters SET join_rule = $2, add_rule = $3, remove_rule = $4,
                        capacity = $5, rules_version = $6, watched = $7,
                        changes = CASE WHEN $7 THEN changes + 1 ELSE changes END,
                        heard = CASE WHEN $7 THEN heard ELSE changes END
                      WHERE log_id = $1 AND rules_version < $6";
        let update = tx.query(update).bind(log_id.0).bind(rules.join as i16);
        let update = update.bind(rules.add as i16).bind(rules.remove as i16);
        update.bind(rules.capacity).bind(version).bind(rules.watched).execute().await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends a roster. Ending it again has no effect.
    pub(crate) async fn close_roster(
        &self,
        actor: &Actor,
        log_id: LogId,
    ) -> Result<Done<()>, Error> {
        let mut tx = self.db.begin().await?;
        let roster =
            lock_log(&mut tx, &actor.tenant_id, log_id).await?.ok_or(Error::LogNotFound)?;
        if !roster.closed {
            let close = "UPDATE rosters SET closed = TRUE, destroy_time = NULL WHERE log_id = $1";
            tx.query(close).bind(log_id.0).execute().await?;
            enqueue(&mut tx, log_id, &[codec::closing(actor.user.as_ref())]).await?;
            tx.commit().await?;
        }
        Ok(Done { log_id, value: () })
    }

    /// The open roster of a room and what it keeps of `viewer`, in one statement.
    pub(crate) async fn roster_seen_by(
        &self,
        tenant_id: &TenantId,
        room_id: &RoomId,
        viewer: Option<&UserId>,
    ) -> Result<Option<(Roster, Option<MemberRow>)>, Error> {
        let select = concat!(
            "SELECT ",
            roster_columns!(),
            ", m.role, m.state, m.join_time
             FROM rosters LEFT JOIN members m ON m.log_id = rosters.log_id AND m.user_id = $3
             WHERE rosters.tenant_id = $1 AND rosters.room_id = $2 AND NOT closed"
        );
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(room_id.as_str());
        let found = select.bind(viewer.map(UserId::as_str)).fetch_optional().await?;
        let Some(Joined(found, SeenRow { role, state, join_time })) = found else {
            return Ok(None);
        };
        let roster = RosterRow::roster(found)?;
        let kept = match (role, state, join_time) {
            (Some(role), Some(state), Some(joined)) => {
                Some(member(roster.log_id, (role, state, joined))?)
            }
            _ => None,
        };
        Ok(Some((roster, kept)))
    }

    /// The roles of a user in those of the logs where the user is a member, and since when; in a
    /// closed log, was one at the end. Found by log: a user may be in many.
    pub(crate) async fn roles(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        log_ids: &[LogId],
    ) -> Result<BTreeMap<LogId, (Role, Micros)>, Error> {
        let select = concat!(
            "SELECT log_id, role, join_time FROM members
             WHERE tenant_id = $1 AND user_id = $2 AND (",
            present!(),
            " OR state = 4) AND log_id IN ($3..)"
        );
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let found = select.bind_list(log_ids.iter().map(|log_id| log_id.0));
        let found: Vec<(Uuid, i16, Micros)> = found.fetch_all().await?;
        let keyed =
            |(log_id, found, joined)| Ok((LogId(log_id), (role(LogId(log_id), found)?, joined)));
        found.into_iter().map(keyed).collect()
    }
}

/// Locks the open roster of a room until the transaction ends.
pub(crate) async fn lock_room(
    tx: &mut Conn,
    tenant_id: &TenantId,
    room_id: &RoomId,
) -> Result<Option<Roster>, StoreError> {
    let lock = concat!(
        "UPDATE rosters SET member_count = member_count
         WHERE tenant_id = $1 AND room_id = $2 AND NOT closed RETURNING ",
        roster_columns!()
    );
    let row = tx.query(lock).bind(tenant_id.as_str()).bind(room_id.as_str());
    row.fetch_optional().await?.map(RosterRow::roster).transpose()
}

/// Locks the roster of a log, open or closed, until the transaction ends.
pub(crate) async fn lock_log(
    tx: &mut Conn,
    tenant_id: &TenantId,
    log_id: LogId,
) -> Result<Option<Roster>, StoreError> {
    let lock = concat!(
        "UPDATE rosters SET member_count = member_count
         WHERE log_id = $1 AND tenant_id = $2 RETURNING ",
        roster_columns!()
    );
    let row = tx.query(lock).bind(log_id.0).bind(tenant_id.as_str());
    row.fetch_optional().await?.map(RosterRow::roster).transpose()
}

/// What the roster keeps of those of the users who are or were members.
pub(crate) async fn members(
    tx: &mut Conn,
    log_id: LogId,
    user_ids: &[&UserId],
) -> Result<BTreeMap<UserId, MemberRow>, StoreError> {
    let select = "SELECT user_id, role, state, join_time
                    FROM (VALUES ($1, $2..)) w JOIN members
                      ON log_id = w.column1 AND user_id = w.column2";
    let found = tx.query(select).bind(log_id.0).bind_list(user_ids.iter().map(|id| id.as_str()));
    let found: Vec<(String, i16, i16, Micros)> = found.fetch_all().await?;
    let keyed = |(user_id, role, state, joined)| {
        Ok((UserId::new(user_id), member(log_id, (role, state, joined))?))
    };
    found.into_iter().map(keyed).collect()
}

/// A locked roster with what it keeps of those of the users who are or were members.
pub(crate) async fn look(
    tx: &mut Conn,
    roster: Roster,
    user_ids: impl IntoIterator<Item = &UserId>,
) -> Result<LockedRoster, StoreError> {
    let user_ids: Vec<_> = user_ids.into_iter().collect();
    let rows = members(tx, roster.log_id, &user_ids).await?;
    Ok(LockedRoster { roster, rows, known: BTreeSet::new(), owners: 0 })
}

/// How many present members are owners, counted up to [`OWNERS`].
pub(crate) async fn owners(tx: &mut Conn, log_id: LogId) -> Result<i64, StoreError> {
    let count = concat!(
        "SELECT COUNT(*) FROM (SELECT 1 FROM members WHERE log_id = $1 AND ",
        present!(),
        " AND role = 3 LIMIT $2) AS owners"
    );
    let (owners,) = tx.query(count).bind(log_id.0).bind(OWNERS).fetch_one().await?;
    Ok(owners)
}

/// Does the steps of a change and enqueues the one fact that tells of them, and of the end of a
/// live room that nobody is in by them. Says whether it ended.
pub(crate) async fn take_all(
    tx: &mut Conn,
    roster: &Roster,
    actor: Option<&UserId>,
    steps: &[Step],
    now: Micros,
) -> Result<bool, Error> {
    let (mut ended, mut events) = (false, Vec::new());
    for step in steps {
        let mut event = codec::event(actor, step);
        if let Step::Gained(newcomers) = step {
            let user_ids = || newcomers.iter().map(|grant| &grant.user_id);
            let mutes = judge(tx, roster, user_ids(), now).await?;
            codec::mute(&mut event, &mutes);
            pending::settle(tx, roster, user_ids()).await?;
        }
        ended |= take(tx, roster, step, now).await?;
        events.push(event);
    }
    if !events.is_empty() {
        events.extend(ended.then(|| codec::closing(None)));
        enqueue(tx, roster.log_id, &events).await?;
    }
    if roster.kind == RoomKind::Direct {
        for step in steps {
            if let Step::Gained(newcomers) = step {
                peers::say_blocks(tx, roster, newcomers).await?;
            }
        }
    }
    Ok(ended)
}

/// Does one step of a change to a locked roster; whether it ended a live room.
async fn take(
    tx: &mut Conn,
    roster: &Roster,
    step: &Step,
    now: Micros,
) -> Result<bool, StoreError> {
    match step {
        Step::Gained(grants) => {
            gain(tx, roster, grants, now).await?;
            count(tx, roster.log_id, grants.len(), 1).await?;
            Ok(false)
        }
        Step::Lost { user_ids, cause, .. } => {
            let state = if *cause == Cause::Removed { State::Removed } else { State::Left };
            lose(tx, roster, user_ids, state, now).await
        }
        Step::Roles(grants) => {
            for grant in grants {
                let set = "UPDATE members SET role = $3 WHERE log_id = $1 AND user_id = $2";
                let set = tx.query(set).bind(roster.log_id.0).bind(grant.user_id.as_str());
                set.bind(grant.role as i16).execute().await?;
            }
            Ok(false)
        }
    }
}

/// Makes users members in one statement: a hundred round trips would hold the roster's
/// lock too long.
async fn gain(
    tx: &mut Conn,
    roster: &Roster,
    grants: &[Grant],
    now: Micros,
) -> Result<(), StoreError> {
    let gained = rows(6, grants.len(), "($1, $+, $2, $3, $+, $4, $5)");
    let insert = AssertSqlSafe(format!(
        "INSERT INTO members (log_id, user_id, tenant_id, room_id, role, state, join_time)
         VALUES {gained} ON CONFLICT (log_id, user_id) DO UPDATE SET role = excluded.role,
           state = excluded.state, join_time = excluded.join_time, leave_time = NULL,
           metadata = '{{}}'"
    ));
    let insert = tx.query(insert).bind(roster.log_id.0).bind(roster.tenant_id.as_str());
    let insert = insert.bind(roster.room_id.as_str()).bind(State::Present as i16).bind(now);
    // As many texts as there are lengths.
    let mut insert = if grants.len() == 1 { insert } else { insert.once() };
    for grant in grants {
        insert = insert.bind(grant.user_id.as_str()).bind(grant.role as i16);
    }
    insert.execute().await.map(drop)
}

/// Ends memberships, and with the last ones a live room that waits for nobody; whether it ended.
/// Its closing then stands in the fact that tells of the rest.
pub(crate) async fn lose(
    tx: &mut Conn,
    roster: &Roster,
    user_ids: &[UserId],
    state: State,
    now: Micros,
) -> Result<bool, StoreError> {
    let lose = "UPDATE members SET state = $1, metadata = '{}', leave_time = $3
                FROM (VALUES ($2, $4..)) w WHERE log_id = w.column1 AND user_id = w.column2";
    let lose = tx.query(lose).bind(state as i16).bind(roster.log_id.0);
    // There are many of live rooms, and they end.
    let lose = lose.bind(roster.live.is_none().then_some(now));
    lose.bind_list(user_ids.iter().map(UserId::as_str)).execute().await?;
    if roster.live.is_some() {
        live::clear_seats(tx, roster.log_id, user_ids).await?;
    }
    let left = count(tx, roster.log_id, user_ids.len(), -1).await?;
    Ok(left == 0 && live::await_or_end(tx, roster, now).await?)
}

/// Counts who came, with 1, or went, with -1; how many there are then. A live room into which
/// somebody comes does not end.
async fn count(tx: &mut Conn, log_id: LogId, users: usize, sign: i64) -> Result<i64, StoreError> {
    let by = sign * i64::try_from(users).unwrap_or(i64::MAX);
    let count = "UPDATE rosters SET member_count = member_count + $2,
                   destroy_time = CASE WHEN $2 > 0 THEN NULL ELSE destroy_time END,
                   changes = CASE WHEN watched THEN changes + 1 ELSE changes END
                 WHERE log_id = $1 RETURNING member_count";
    let (count,) = tx.query(count).bind(log_id.0).bind(by).fetch_one().await?;
    Ok(count)
}
