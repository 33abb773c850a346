//! Rosters in SQL: the row of a roster is the lock of everything about it.

use std::collections::{BTreeMap, BTreeSet};

use parlance_db::{AssertSqlSafe, Conn, Joined, StoreError, Stored, rows};
use parlance_outbox::{OutboxLog, enqueue, register};
use parlance_types::{
    JoinRule, LogId, MemberRule, Micros, Role, RoomId, RoomKind, TenantId, UserId,
};
use uuid::Uuid;

use super::{
    Grant, LockedRoster, MemberRow, NewRoster, Refused, Roster, Rules, State, Step, admit, may_open,
};
use crate::handler::{Actor, MAX_LIST};
use crate::store::{Done, Store, ensure_users, known_users};
use crate::{Error, codec};

mod act;
mod ended;
mod sanctions;

pub(crate) use act::{Act, Asked};
use sanctions::keep_banned_out;
pub(crate) use sanctions::sanctions;

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
         capacity, member_count, closed"
    };
}

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

/// A roster to be opened, and the event that creates its log.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) roster: NewRoster,
    pub(crate) created: codec::Event,
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
            },
            tenant_id: TenantId::new(self.tenant_id),
            room_id: RoomId::new(self.room_id),
            member_count: self.member_count,
            closed: self.closed,
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
        ensure_users(&mut tx, &actor.tenant_id, &new.ensure.iter().collect(), now).await?;
        let roster = Roster {
            log_id: new.log_id,
            tenant_id: actor.tenant_id.clone(),
            room_id: new.room_id.clone(),
            kind: new.kind,
            rules: new.rules,
            member_count: 0,
            closed: false,
        };
        if !insert(&mut tx, &roster, new.rules_version).await? {
            return match lock_log(&mut tx, &actor.tenant_id, new.log_id).await? {
                Some(found) if found.room_id == new.room_id => Ok(done),
                _ => Err(Refused::RoomIdTaken.into()),
            };
        }
        let named: Vec<_> = new.members.iter().map(|member| &member.user_id).collect();
        let known = known_users(&mut tx, &actor.tenant_id, &named).await?;
        may_open(new.rules, &new.members, |user_id| known.contains(user_id))?;
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
        Ok(())
    }

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
        ensure_users(&mut tx, &actor.tenant_id, &user_ids.iter().collect(), now).await?;
        let roster = lock_log(&mut tx, &actor.tenant_id, log_id).await?;
        let roster = roster.filter(|roster| !roster.closed).ok_or(Error::LogNotFound)?;
        let rows = members(&mut tx, log_id, &user_ids.iter().collect::<Vec<_>>()).await?;
        let locked = LockedRoster { roster, rows, known: BTreeSet::new(), owners: 0 };
        let gained = admit(&locked, user_ids, readmit)?;
        if !gained.is_empty() {
            let steps = [Step::Gained(gained)];
            take_all(&mut tx, &locked.roster, actor.user.as_ref(), &steps, now).await?;
        }
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
                        capacity = $5, rules_version = $6
                      WHERE log_id = $1 AND rules_version < $6";
        let update = tx.query(update).bind(log_id.0).bind(rules.join as i16);
        let update = update.bind(rules.add as i16).bind(rules.remove as i16);
        update.bind(rules.capacity).bind(version).execute().await?;
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
            let close = "UPDATE rosters SET closed = TRUE WHERE log_id = $1";
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

    /// The roles of a user in those of the logs where the user is a member; in a
    /// closed log, was one at the end. Found by log: a user may be in many.
    pub(crate) async fn roles(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        log_ids: &[LogId],
    ) -> Result<BTreeMap<LogId, Role>, Error> {
        let select = concat!(
            "SELECT log_id, role FROM members
             WHERE tenant_id = $1 AND user_id = $2 AND (",
            present!(),
            " OR state = 4) AND log_id IN ($3..)"
        );
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let found = select.bind_list(log_ids.iter().map(|log_id| log_id.0));
        let found: Vec<(Uuid, i16)> = found.fetch_all().await?;
        let keyed = |(log_id, found)| Ok((LogId(log_id), role(LogId(log_id), found)?));
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
async fn lock_log(
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

/// `false`: the log has a roster, or another open one holds the room.
async fn insert(tx: &mut Conn, roster: &Roster, version: i64) -> Result<bool, StoreError> {
    let insert = "INSERT INTO rosters
                    (log_id, tenant_id, room_id, kind, join_rule, add_rule, remove_rule, capacity,
                     rules_version, member_count, closed, peopled)
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, FALSE, TRUE) ON CONFLICT DO NOTHING";
    let Roster { log_id, tenant_id, room_id, kind, rules, .. } = roster;
    let insert = tx.query(insert).bind(log_id.0).bind(tenant_id.as_str()).bind(room_id.as_str());
    let insert = insert.bind(*kind as i16).bind(rules.join as i16).bind(rules.add as i16);
    let insert = insert.bind(rules.remove as i16).bind(rules.capacity).bind(version);
    Ok(insert.execute().await? == 1)
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

/// Does the steps of a change and enqueues the one fact that tells of them.
pub(crate) async fn take_all(
    tx: &mut Conn,
    roster: &Roster,
    actor: Option<&UserId>,
    steps: &[Step],
    now: Micros,
) -> Result<(), Error> {
    for step in steps {
        if let Step::Gained(newcomers) = step {
            keep_banned_out(tx, roster, newcomers, now).await?;
        }
        take(tx, roster, step, now).await?;
    }
    if !steps.is_empty() {
        let events: Vec<_> = steps.iter().map(|step| codec::event(actor, step)).collect();
        enqueue(tx, roster.log_id, &events).await?;
    }
    Ok(())
}

/// Does one step of a change to a locked roster.
async fn take(tx: &mut Conn, roster: &Roster, step: &Step, now: Micros) -> Result<(), StoreError> {
    match step {
        Step::Gained(grants) => {
            gain(tx, roster, grants, now).await?;
            count(tx, roster.log_id, grants.len(), 1).await
        }
        Step::Lost { user_ids, removed, .. } => {
            let state = if *removed { State::Removed } else { State::Left };
            lose(tx, roster.log_id, user_ids, state).await
        }
        Step::Roles(grants) => {
            for grant in grants {
                let set = "UPDATE members SET role = $3 WHERE log_id = $1 AND user_id = $2";
                let set = tx.query(set).bind(roster.log_id.0).bind(grant.user_id.as_str());
                set.bind(grant.role as i16).execute().await?;
            }
            Ok(())
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
           state = excluded.state, join_time = excluded.join_time"
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

/// Ends memberships.
pub(crate) async fn lose(
    tx: &mut Conn,
    log_id: LogId,
    user_ids: &[UserId],
    state: State,
) -> Result<(), StoreError> {
    let lose = "UPDATE members SET state = $1 FROM (VALUES ($2, $3..)) w
                WHERE log_id = w.column1 AND user_id = w.column2";
    let lose = tx.query(lose).bind(state as i16).bind(log_id.0);
    lose.bind_list(user_ids.iter().map(UserId::as_str)).execute().await?;
    count(tx, log_id, user_ids.len(), -1).await
}

async fn count(tx: &mut Conn, log_id: LogId, users: usize, sign: i64) -> Result<(), StoreError> {
    let by = sign * i64::try_from(users).unwrap_or(i64::MAX);
    let count = "UPDATE rosters SET member_count = member_count + $2 WHERE log_id = $1";
    tx.query(count).bind(log_id.0).bind(by).execute().await.map(drop)
}
