//! The first members of several rooms.

use std::collections::BTreeMap;

use parlance_types::{LogId, TenantId, UserId};

use super::{Roster, RosterRow};
use crate::Error;
use crate::roster::MemberFilter;
use crate::store::Store;

impl Store {
    /// The first `most` members of those of the logs that are open, with their number.
    pub(crate) async fn first_members(
        &self,
        tenant_id: &TenantId,
        log_ids: &[LogId],
        most: usize,
    ) -> Result<BTreeMap<LogId, (Vec<UserId>, i64)>, Error> {
        // By the key alone: an index of the open ones would be walked through for them.
        let select = concat!(
            "SELECT ",
            roster_columns!(),
            " FROM (VALUES ($1, $2..)) w JOIN rosters
                ON tenant_id = w.column1 AND log_id = w.column2"
        );
        let select = self.db.read(select).bind(tenant_id.as_str());
        let rows = select.bind_list(log_ids.iter().map(|log_id| log_id.0)).fetch_all().await?;
        let rosters: Vec<Roster> =
            rows.into_iter().map(RosterRow::roster).collect::<Result<_, _>>()?;
        let mut found = BTreeMap::new();
        for roster in rosters.into_iter().filter(|roster| !roster.closed) {
            let members = self.members(&roster, &MemberFilter::default(), None, most).await?;
            let user_ids = members.into_iter().map(|member| member.user_id).collect();
            found.insert(roster.log_id, (user_ids, roster.member_count));
        }
        Ok(found)
    }
}
