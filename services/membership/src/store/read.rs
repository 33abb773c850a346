//! Looking at rosters.

use std::collections::BTreeMap;

use parlance_db::read_db;
use parlance_types::{LogId, RoomId, TenantId, UserId};
use sqlx::{AssertSqlSafe, FromRow as _};
use uuid::Uuid;

use super::scene::{RosterRow, member, roster};
use super::{Store, padded, placeholders};
use crate::Error;
use crate::domain::{MemberRow, Membership, Role, Roster};

/// Which members of a room to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// Only these users; empty: all.
    pub user_ids: Vec<UserId>,
    /// Only these roles; empty: all.
    pub roles: Vec<Role>,
}

parlance_db::row! {
    /// What a roster keeps of the viewer.
    struct SeenRow {
        role: Option<i16>,
        state: Option<i16>,
        join_time: Option<i64>,
    }
}

fn role(role: i16) -> Result<Role, Error> {
    Role::from_i16(role).ok_or(Error::Impossible { table: "members", column: "role" })
}

fn membership(row: (String, String, i16, i64)) -> Result<Membership, Error> {
    let (room_id, user_id, member_role, joined) = row;
    let (room_id, user_id) = (RoomId::new(room_id), UserId::new(user_id));
    Ok(Membership { room_id, user_id, role: role(member_role)?, joined })
}

impl Store {
    /// The open roster of a room and what it keeps of `viewer`, in one statement.
    pub async fn roster_seen_by(
        &self,
        tenant_id: &TenantId,
        room_id: &RoomId,
        viewer: Option<&UserId>,
    ) -> Result<Option<(Roster, Option<MemberRow>)>, Error> {
        let found = read_db!(&self.db, |pool| {
            let row = sqlx::query(
                "SELECT r.log_id, r.tenant_id, r.room_id, r.kind, r.join_rule, r.add_rule,
                   r.remove_rule, r.capacity, r.member_count, r.closed,
                   m.role, m.state, m.join_time
                 FROM rosters r LEFT JOIN members m ON m.log_id = r.log_id AND m.user_id = $3
                 WHERE r.tenant_id = $1 AND r.room_id = $2 AND NOT r.closed",
            )
            .bind(tenant_id.as_str())
            .bind(room_id.as_str())
            .bind(viewer.map(UserId::as_str))
            .fetch_optional(pool)
            .await?;
            row.map(|row| Ok((RosterRow::from_row(&row)?, SeenRow::from_row(&row)?))).transpose()
        })
        .map_err(Error::Store)?;
        let Some((found, seen)) = found else { return Ok(None) };
        let kept = match (seen.role, seen.state, seen.join_time) {
            (Some(role), Some(state), Some(joined)) => Some(member((role, state, joined))?),
            _ => None,
        };
        Ok(Some((roster(found)?, kept)))
    }

    /// The present membership of a user in a log.
    pub async fn membership(
        &self,
        log_id: LogId,
        user_id: &UserId,
    ) -> Result<Option<Membership>, Error> {
        let row: Option<(String, String, i16, i64)> = read_db!(&self.db, |pool| {
            sqlx::query_as(
                "SELECT room_id, user_id, role, join_time FROM members
                 WHERE log_id = $1 AND user_id = $2 AND state = 1",
            )
            .bind(log_id.0)
            .bind(user_id.as_str())
            .fetch_optional(pool)
            .await
        })?;
        row.map(membership).transpose()
    }

    /// The first `limit` present members above `after`, by user id.
    pub async fn members(
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
        let named = match filter.user_ids.len() {
            0 => String::new(),
            count => format!("AND user_id IN ({})", placeholders(7, count)),
        };
        let sql = format!(
            "SELECT room_id, user_id, role, join_time FROM members
             WHERE log_id = $1 AND user_id > $2 AND state = 1 AND role IN ($3, $4, $5) {named}
             ORDER BY user_id LIMIT $6"
        );
        let rows: Vec<(String, String, i16, i64)> = read_db!(&self.db, |pool| {
            let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(log_id.0);
            query = query.bind(after.map_or("", UserId::as_str));
            for role in all {
                query = query.bind(asked(role));
            }
            query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
            if !filter.user_ids.is_empty() {
                for user_id in padded(&filter.user_ids) {
                    query = query.bind(user_id.as_str());
                }
            }
            query.fetch_all(pool).await
        })?;
        rows.into_iter().map(membership).collect()
    }

    /// The first `limit` present memberships of a user above `after`, by room id.
    pub async fn memberships(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<Membership>, Error> {
        let rows: Vec<(String, String, i16, i64)> = read_db!(&self.db, |pool| {
            sqlx::query_as(
                "SELECT m.room_id, m.user_id, m.role, m.join_time
                 FROM members m JOIN rosters r ON r.log_id = m.log_id AND NOT r.closed
                 WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.state = 1 AND m.room_id > $3
                 ORDER BY m.room_id LIMIT $4",
            )
            .bind(tenant_id.as_str())
            .bind(user_id.as_str())
            .bind(after.map_or("", RoomId::as_str))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(membership).collect()
    }

    /// The roles of a user in those of the logs where the user is a member; in a
    /// closed log, was one at the end.
    pub async fn roles(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        log_ids: &[LogId],
    ) -> Result<BTreeMap<LogId, Role>, Error> {
        let list = placeholders(3, log_ids.len());
        let sql = format!(
            "SELECT log_id, role FROM members
             WHERE tenant_id = $1 AND user_id = $2 AND state = 1 AND log_id IN ({list})"
        );
        let rows: Vec<(Uuid, i16)> = read_db!(&self.db, |pool| {
            let mut query =
                sqlx::query_as(AssertSqlSafe(sql)).bind(tenant_id.as_str()).bind(user_id.as_str());
            for log_id in padded(log_ids) {
                query = query.bind(log_id.0);
            }
            query.fetch_all(pool).await
        })?;
        rows.into_iter().map(|(log_id, found)| Ok((LogId(log_id), role(found)?))).collect()
    }
}
