//! Memberships in SQL: changes, and who is where.

use std::collections::BTreeSet;

use parlance_db::{Conn, StoreError};
use parlance_types::{LogId, Micros, Role, RoomId, RoomKind, TenantId, UserId};
use uuid::Uuid;

use super::{Change, decide};
use crate::roster::store::{Act, members, owners, present, role, take_all};
use crate::roster::{LockedRoster, MemberFilter, Membership, Roster, State};
use crate::store::{Store, known_users};
use crate::{Error, codec};

type Row = (Uuid, String, String, i16, Micros);

/// The first members of one role.
macro_rules! of_role {
    ($role:literal) => {
        concat!(
            "SELECT * FROM (SELECT log_id, room_id, user_id, role, join_time FROM members
              WHERE log_id = $1 AND user_id > $6 AND ",
            present!(),
            " AND role = ",
            $role,
            " ORDER BY user_id LIMIT $2) AS of_role"
        )
    };
}

/// A page of members, put together from one of each role: those who left, and who holds
/// another role, are not walked over.
const PAGE: &str = concat!(
    of_role!("$3"),
    " UNION ALL ",
    of_role!("$4"),
    " UNION ALL ",
    of_role!("$5"),
    " ORDER BY user_id LIMIT $2"
);

fn membership((log_id, room_id, user_id, stored_role, joined): Row) -> Result<Membership, Error> {
    let role = role(LogId(log_id), stored_role)?;
    let (room_id, user_id) = (RoomId::new(room_id), UserId::new(user_id));
    Ok(Membership { room_id, user_id, role, joined })
}

impl Act for Change {
    async fn run(
        &self,
        tx: &mut Conn,
        roster: Roster,
        actor: Option<&UserId>,
        now: Micros,
    ) -> Result<Vec<u8>, Error> {
        let locked = look(tx, roster, actor, self).await?;
        let decision = decide(&locked, actor, self, now)?;
        take_all(tx, &locked.roster, actor, &decision.steps, now).await?;
        Ok(codec::reply(&decision.outcome))
    }
}

impl Store {
    /// The present membership of a user in a room.
    pub(crate) async fn membership(
        &self,
        roster: &Roster,
        user_id: &UserId,
    ) -> Result<Option<Membership>, Error> {
        let filter = MemberFilter { user_ids: vec![user_id.clone()], roles: Vec::new() };
        Ok(self.named_members(roster, &filter, None, 1).await?.pop())
    }

    /// The first `limit` present members above `after`, by user id.
    pub(crate) async fn members(
        &self,
        roster: &Roster,
        filter: &MemberFilter,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Membership>, Error> {
        if !filter.user_ids.is_empty() {
            return self.named_members(roster, filter, after, limit).await;
        }
        let select = self.db.read(PAGE).bind(roster.log_id.0);
        let mut select = select.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        // Absent roles are 0, which no member has.
        for role in [Role::Member, Role::Admin, Role::Owner] {
            select = select.bind(if filter.has(role) { role as i16 } else { 0 });
        }
        let found = select.bind(after.map_or("", UserId::as_str)).fetch_all().await?;
        found.into_iter().map(membership).collect()
    }

    /// The same of given users, who are looked up one by one: an index of those present would
    /// be walked through for them.
    async fn named_members(
        &self,
        roster: &Roster,
        filter: &MemberFilter,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Membership>, Error> {
        let named = filter.user_ids.iter().filter(|user_id| Some(*user_id) > after);
        let named: Vec<_> = named.collect();
        let rows = members(&mut self.db.reader().await?, roster.log_id, &named).await?;
        let listed = rows.iter();
        let listed = listed.filter(|(_, row)| row.state == State::Present && filter.has(row.role));
        let listed = listed.map(|(user_id, row)| Membership::of(&roster.room_id, user_id, row));
        Ok(listed.take(limit).collect())
    }

    /// The first `limit` present memberships of a user above `after`, by room id.
    pub(crate) async fn memberships(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<Membership>, Error> {
        let select = concat!(
            "SELECT m.log_id, m.room_id, m.user_id, m.role, m.join_time
             FROM members m JOIN rosters r ON r.log_id = m.log_id AND NOT r.closed
             WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.",
            present!(),
            " AND m.room_id > $3 ORDER BY m.room_id LIMIT $4"
        );
        let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
        let select = select.bind(after.map_or("", RoomId::as_str));
        let select = select.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        select.fetch_all().await?.into_iter().map(membership).collect()
    }
}

/// How many memberships are looked at in one statement, and how many such a call makes.
const LOOK: i64 = 100;
const TURNS: usize = 5;

impl Store {
    /// The first `limit` present memberships of a user above `after`, by room id, in rooms in
    /// which all of `others` are, too; and the room to go on after, if there may be more.
    pub(crate) async fn common_memberships(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        others: &[UserId],
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<(Vec<Membership>, Option<RoomId>), Error> {
        // Counted, and not joined, where they are present: each is found by its key. An index
        // of those present would be walked through for them.
        let select = concat!(
            "SELECT m.log_id, m.room_id, m.user_id, m.role, m.join_time,
                    (SELECT COUNT(CASE WHEN o.",
            present!(),
            " THEN 1 END) FROM (VALUES ($2, $5..)) w JOIN members o
                        ON o.log_id = m.log_id AND o.user_id = w.column2) AS others
             FROM members m JOIN rosters r ON r.log_id = m.log_id AND NOT r.closed
             WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.",
            present!(),
            " AND m.room_id > $3 ORDER BY m.room_id LIMIT $4"
        );
        let all = i64::try_from(others.len()).unwrap_or(i64::MAX);
        let (mut found, mut last) = (Vec::new(), after.cloned());
        for _ in 0..TURNS {
            let select = self.db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
            let select = select.bind(last.as_ref().map_or("", RoomId::as_str)).bind(LOOK);
            let select = select.bind_list(others.iter().map(UserId::as_str));
            let rows: Vec<(Uuid, String, String, i16, Micros, i64)> = select.fetch_all().await?;
            let seen = rows.len();
            for (log_id, room_id, user_id, role, joined, others) in rows {
                last = Some(RoomId::new(room_id.clone()));
                if others == all {
                    found.push(membership((log_id, room_id, user_id, role, joined))?);
                }
                if found.len() == limit {
                    return Ok((found, last));
                }
            }
            if i64::try_from(seen).is_ok_and(|seen| seen < LOOK) {
                return Ok((found, None));
            }
        }
        Ok((found, last))
    }
}

/// What a change of a locked roster is decided by.
async fn look(
    tx: &mut Conn,
    roster: Roster,
    actor: Option<&UserId>,
    change: &Change,
) -> Result<LockedRoster, StoreError> {
    let mut concerned = change.names();
    concerned.extend(actor);
    let rows = members(tx, roster.log_id, &concerned).await?;
    let known = match change {
        Change::Add { .. } | Change::Edit { .. } if roster.kind != RoomKind::Direct => {
            known_users(tx, &roster.tenant_id, &change.names()).await?
        }
        _ => BTreeSet::new(),
    };
    let owners = owners(tx, roster.log_id).await?;
    Ok(LockedRoster { roster, rows, known, owners })
}
