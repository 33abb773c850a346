//! A tenant that is filled faster than by requests.

use parlance_db::{AssertSqlSafe, Db, Query, rows};
use parlance_proto::message::v1::MemberRole;
use uuid::Uuid;

use super::Place;
use crate::harness::World;

/// A tenant that is being filled, faster than by requests.
pub(super) struct Growing<'a> {
    pub(super) world: &'a World,
    pub(super) db: &'a Db,
    pub(super) place: &'a Place,
}

impl Growing<'_> {
    pub(super) fn write(&self, sql: &'static str) -> Query<'_> {
        self.db.write(sql).bind(self.place.tenant)
    }

    /// Puts users into the group, or into its past.
    pub(super) async fn members(&self, count: i64, role: MemberRole, state: i16) {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
            INSERT INTO members (log_id, user_id, tenant_id, room_id, role, state, join_time)
            SELECT $2, 'm' || CAST(n.i AS TEXT), $1, 'den', $4, $5, 1 FROM n";
        let insert = self.write(insert).bind(self.place.den.0).bind(count);
        let role = i16::try_from(i32::from(role)).expect("small");
        insert.bind(role).bind(state).execute().await.expect("filled");
        if state == 1 {
            let update = "UPDATE rosters SET member_count = member_count + $3
                          WHERE tenant_id = $1 AND log_id = $2";
            let update = self.write(update).bind(self.place.den.0).bind(count);
            update.execute().await.expect("counted");
        }
    }

    /// Makes rooms that Rita is or was in; `name` is what each is called.
    pub(super) async fn rooms(
        &self,
        count: i64,
        closed: bool,
        state: i16,
        name: impl Fn(Uuid) -> String,
    ) {
        let logs: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        for logs in logs.chunks(500) {
            let rosters = rows(3, logs.len(), "($+, $1, $+, 2, 2, 1, 2, 100, 1, 1, $2, FALSE)");
            let rosters = format!(
                "INSERT INTO rosters (log_id, tenant_id, room_id, kind, join_rule, add_rule,
                                      remove_rule, capacity, rules_version, member_count, closed,
                                      peopled)
                 VALUES {rosters}"
            );
            let rosters = self.db.write(AssertSqlSafe(rosters)).once();
            let mut rosters = rosters.bind(self.place.tenant).bind(closed);
            let members = rows(3, logs.len(), "($+, 'rita', $1, $+, 1, $2, 1)");
            let members = format!(
                "INSERT INTO members (log_id, user_id, tenant_id, room_id, role, state, join_time)
                 VALUES {members}"
            );
            let members = self.db.write(AssertSqlSafe(members)).once();
            let mut members = members.bind(self.place.tenant).bind(state);
            for log_id in logs {
                rosters = rosters.bind(*log_id).bind(name(*log_id));
                members = members.bind(*log_id).bind(name(*log_id));
            }
            rosters.execute().await.expect("rosters");
            members.execute().await.expect("members");
        }
    }
}
