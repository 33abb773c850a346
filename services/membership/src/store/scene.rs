//! What a change is decided on: the roster under its lock, and its members.

use std::collections::BTreeMap;

use parlance_types::{LogId, Micros, RoomId, TenantId, UserId};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Tx, in_tx, padded, placeholders};
use crate::Error;
use crate::domain::{
    Grant, JoinRule, MemberRow, MemberRule, Role, RoomKind, Roster, Rules, State, Step,
};

parlance_db::row! {
    /// A row of rosters.
    pub(super) struct RosterRow {
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

macro_rules! roster_columns {
    () => {
        "log_id, tenant_id, room_id, kind, join_rule, add_rule, remove_rule, capacity, \
         member_count, closed"
    };
}

pub(super) fn roster(row: RosterRow) -> Result<Roster, Error> {
    let impossible = |column| Error::Impossible { table: "rosters", column };
    let member_rule = |rule, column| MemberRule::from_i16(rule).ok_or_else(|| impossible(column));
    Ok(Roster {
        log_id: LogId(row.log_id),
        tenant_id: TenantId::new(row.tenant_id),
        room_id: RoomId::new(row.room_id),
        kind: RoomKind::from_i16(row.kind).ok_or_else(|| impossible("kind"))?,
        rules: Rules {
            join: JoinRule::from_i16(row.join_rule).ok_or_else(|| impossible("join_rule"))?,
            add: member_rule(row.add_rule, "add_rule")?,
            remove: member_rule(row.remove_rule, "remove_rule")?,
            capacity: row.capacity,
        },
        member_count: row.member_count,
        closed: row.closed,
    })
}

pub(super) fn member((role, state, joined): (i16, i16, i64)) -> Result<MemberRow, Error> {
    let impossible = |column| Error::Impossible { table: "members", column };
    Ok(MemberRow {
        role: Role::from_i16(role).ok_or_else(|| impossible("role"))?,
        state: State::from_i16(state).ok_or_else(|| impossible("state"))?,
        joined,
    })
}

impl Tx {
    /// Locks the open roster of a room until the transaction ends.
    pub(super) async fn lock_room(
        &mut self,
        tenant_id: &TenantId,
        room_id: &RoomId,
    ) -> Result<Option<Roster>, Error> {
        let row: Option<RosterRow> = in_tx!(self, |tx| {
            sqlx::query_as(concat!(
                "UPDATE rosters SET member_count = member_count
                 WHERE tenant_id = $1 AND room_id = $2 AND NOT closed RETURNING ",
                roster_columns!()
            ))
            .bind(tenant_id.as_str())
            .bind(room_id.as_str())
            .fetch_optional(&mut **tx)
            .await
        })?;
        row.map(roster).transpose()
    }

    /// Locks the roster of a log, open or closed, until the transaction ends.
    pub(super) async fn lock_log(
        &mut self,
        tenant_id: &TenantId,
        log_id: LogId,
    ) -> Result<Option<Roster>, Error> {
        let row: Option<RosterRow> = in_tx!(self, |tx| {
            sqlx::query_as(concat!(
                "UPDATE rosters SET member_count = member_count
                 WHERE log_id = $1 AND tenant_id = $2 RETURNING ",
                roster_columns!()
            ))
            .bind(log_id.0)
            .bind(tenant_id.as_str())
            .fetch_optional(&mut **tx)
            .await
        })?;
        row.map(roster).transpose()
    }

    /// What the roster keeps of those of the users who are or were members.
    pub(super) async fn members(
        &mut self,
        log_id: LogId,
        user_ids: &[&UserId],
    ) -> Result<BTreeMap<UserId, MemberRow>, Error> {
        if user_ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = placeholders(2, user_ids.len());
        let sql = format!(
            "SELECT user_id, role, state, join_time FROM members
             WHERE log_id = $1 AND user_id IN ({list})"
        );
        let rows: Vec<(String, i16, i16, i64)> = in_tx!(self, |tx| {
            let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(log_id.0);
            for user_id in padded(user_ids) {
                query = query.bind(user_id.as_str());
            }
            query.fetch_all(&mut **tx).await
        })?;
        let keyed = |(user_id, role, state, joined)| {
            member((role, state, joined)).map(|row| (UserId::new(user_id), row))
        };
        rows.into_iter().map(keyed).collect()
    }

    /// How many present members are owners.
    pub(super) async fn owners(&mut self, log_id: LogId) -> Result<i64, Error> {
        let owners = in_tx!(self, |tx| {
            sqlx::query_scalar(
                "SELECT count(*) FROM members WHERE log_id = $1 AND state = 1 AND role = 3",
            )
            .bind(log_id.0)
            .fetch_one(&mut **tx)
            .await
        })?;
        Ok(owners)
    }

    /// Does one step of a change to a locked roster.
    pub(super) async fn take(
        &mut self,
        roster: &Roster,
        step: &Step,
        now: Micros,
    ) -> Result<(), Error> {
        match step {
            Step::Gained(grants) => {
                self.gain(roster, grants, now).await?;
                self.count(roster.log_id, grants.len(), 1).await
            }
            Step::Lost { user_ids, removed, .. } => {
                let state = if *removed { State::Removed } else { State::Left };
                self.lose(roster.log_id, user_ids, state).await?;
                self.count(roster.log_id, user_ids.len(), -1).await
            }
            Step::Roles(grants) => {
                for grant in grants {
                    self.set_role(roster.log_id, grant).await?;
                }
                Ok(())
            }
        }
    }

    /// Makes users members in one statement: a hundred round trips would hold the
    /// roster's lock too long.
    async fn gain(&mut self, roster: &Roster, grants: &[Grant], now: Micros) -> Result<(), Error> {
        // Four values are the same in every row, two are its own.
        let row = |index: usize| {
            format!(
                "($1, ${user}, $2, $3, ${role}, 1, $4)",
                user = 2 * index + 5,
                role = 2 * index + 6
            )
        };
        let rows: Vec<_> = (0..grants.len()).map(row).collect();
        let sql = format!(
            "INSERT INTO members (log_id, user_id, tenant_id, room_id, role, state, join_time)
             VALUES {} ON CONFLICT (log_id, user_id) DO UPDATE SET role = excluded.role,
               state = excluded.state, join_time = excluded.join_time",
            rows.join(", ")
        );
        in_tx!(self, |tx| {
            let mut query = sqlx::query(AssertSqlSafe(sql))
                // As many texts as there are lengths: not worth keeping prepared.
                .persistent(grants.len() == 1)
                .bind(roster.log_id.0)
                .bind(roster.tenant_id.as_str())
                .bind(roster.room_id.as_str())
                .bind(now);
            for grant in grants {
                query = query.bind(grant.user_id.as_str()).bind(grant.role as i16);
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
        Ok(())
    }

    async fn lose(
        &mut self,
        log_id: LogId,
        user_ids: &[UserId],
        state: State,
    ) -> Result<(), Error> {
        let list = placeholders(3, user_ids.len());
        let sql =
            format!("UPDATE members SET state = $2 WHERE log_id = $1 AND user_id IN ({list})");
        in_tx!(self, |tx| {
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(log_id.0).bind(state as i16);
            for user_id in padded(user_ids) {
                query = query.bind(user_id.as_str());
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
        Ok(())
    }

    async fn set_role(&mut self, log_id: LogId, grant: &Grant) -> Result<(), Error> {
        in_tx!(self, |tx| {
            sqlx::query("UPDATE members SET role = $3 WHERE log_id = $1 AND user_id = $2")
                .bind(log_id.0)
                .bind(grant.user_id.as_str())
                .bind(grant.role as i16)
                .execute(&mut **tx)
                .await
                .map(drop)
        })?;
        Ok(())
    }

    async fn count(&mut self, log_id: LogId, users: usize, sign: i64) -> Result<(), Error> {
        let by = sign * i64::try_from(users).unwrap_or(i64::MAX);
        in_tx!(self, |tx| {
            sqlx::query("UPDATE rosters SET member_count = member_count + $2 WHERE log_id = $1")
                .bind(log_id.0)
                .bind(by)
                .execute(&mut **tx)
                .await
                .map(drop)
        })?;
        Ok(())
    }
}
