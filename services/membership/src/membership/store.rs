//! Memberships in SQL: changes, one transaction from the lock to the record of the reply;
//! and who is where.

use std::collections::BTreeSet;

use parlance_db::{AssertSqlSafe, Conn, StoreError};
use parlance_requests::Found;
use parlance_types::{LogId, Micros, Role, RoomId, RoomKind, TenantId, UserId};
use uuid::Uuid;

use super::{Asked, Change, decide};
use crate::roster::store::{lock_room, members, owners, present, role, take_all};
use crate::roster::{LockedRoster, MemberFilter, Membership, Refused, Roster};
use crate::store::{Done, Store, known_users};
use crate::{Error, codec};

type Row = (Uuid, String, String, i16, Micros);

fn membership((log_id, room_id, user_id, stored_role, joined): Row) -> Result<Membership, Error> {
    let role = role(LogId(log_id), stored_role)?;
    let (room_id, user_id) = (RoomId::new(room_id), UserId::new(user_id));
    Ok(Membership { room_id, user_id, role, joined })
}

impl Store {
    /// Decides a change under the roster's lock and commits it together with its
    /// fact and the encoded reply. A repeated request gets its first reply.
    pub(crate) async fn change(&self, asked: &Asked) -> Result<Done<Vec<u8>>, Error> {
        let Asked { actor, room_id, change, request } = asked;
        let mut tx = self.db.begin().await?;
        let roster = lock_room(&mut tx, &actor.tenant_id, room_id).await?;
        // A repeat is found before anything is judged: it gets what the first one got.
        if let Some(request) = request {
            let life = roster.as_ref().map(|roster| roster.log_id);
            match request.find(&mut tx, life).await? {
                Found::Repeat { log_id, reply } => return Ok(Done { log_id, value: reply }),
                Found::Reused => return Err(Error::RequestIdReused),
                Found::New => {}
            }
        }
        let roster = roster.ok_or(Refused::RoomNotFound)?;
        let now = self.clock.now();
        let locked = look(&mut tx, roster, actor.user.as_ref(), change).await?;
        let decision = decide(&locked, actor.user.as_ref(), change, now)?;
        take_all(&mut tx, &locked.roster, actor.user.as_ref(), &decision.steps, now).await?;
        let (log_id, value) = (locked.roster.log_id, codec::reply(&decision.outcome));
        if let Some(request) = request
            && !request.record(&mut tx, log_id, &value, now).await?
        {
            return Err(Error::RequestIdReused);
        }
        tx.commit().await?;
        Ok(Done { log_id, value })
    }

    /// The present membership of a user in a log.
    pub(crate) async fn membership(
        &self,
        log_id: LogId,
        user_id: &UserId,
    ) -> Result<Option<Membership>, Error> {
        let select = concat!(
            "SELECT log_id, room_id, user_id, role, join_time FROM members
             WHERE log_id = $1 AND user_id = $2 AND ",
            present!()
        );
        let row = self.db.read(select).bind(log_id.0).bind(user_id.as_str());
        row.fetch_optional().await?.map(membership).transpose()
    }

    /// The first `limit` present members above `after`, by user id.
    pub(crate) async fn members(
        &self,
        log_id: LogId,
        filter: &MemberFilter,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Membership>, Error> {
        // Absent roles are 0, which no member has; no filter names all three.
        let all = [Role::Member, Role::Admin, Role::Owner];
        let roles = if filter.roles.is_empty() { &all } else { filter.roles.as_slice() };
        let asked = |role: Role| if roles.contains(&role) { role as i16 } else { 0 };
        let named = if filter.user_ids.is_empty() { "" } else { "AND user_id IN ($7..)" };
        let select = AssertSqlSafe(format!(
            "SELECT log_id, room_id, user_id, role, join_time FROM members
             WHERE log_id = $1 AND user_id > $2 AND {} AND role IN ($3, $4, $5) {named}
             ORDER BY user_id LIMIT $6",
            present!()
        ));
        let mut select = self.db.read(select).bind(log_id.0);
        select = select.bind(after.map_or("", UserId::as_str));
        for role in all {
            select = select.bind(asked(role));
        }
        select = select.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        if !filter.user_ids.is_empty() {
            select = select.bind_list(filter.user_ids.iter().map(UserId::as_str));
        }
        select.fetch_all().await?.into_iter().map(membership).collect()
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
        Change::Add { .. } if roster.kind != RoomKind::Direct => {
            known_users(tx, &roster.tenant_id, &change.names()).await?
        }
        _ => BTreeSet::new(),
    };
    let owners = owners(tx, roster.log_id).await?;
    Ok(LockedRoster { roster, rows, known, owners })
}
