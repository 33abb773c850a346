//! The listed channels of a tenant.

use parlance_db::Joined;
use parlance_types::{LogId, TenantId};

use super::{Store, many};
use crate::Error;
use crate::clients::Changed;
use crate::room::row::{ListedRow, NamedRow, selected};
use crate::room::{Listed, Room, State, Visibility};

const _: () = assert!(Visibility::Listed as i16 == 2);

/// Listed channels of the tenant $1. Not bound: indexes hold these rooms only.
macro_rules! listed {
    ($($rest:literal),+) => {
        concat!(
            "SELECT log_id, kind, name, fields, (SELECT s.allowed_fields FROM tenant_settings s
                                           WHERE s.tenant_id = rooms.tenant_id) AS allowed_fields,
                    members
             FROM rooms WHERE tenant_id = $1 AND visibility = 2 AND state = 2 AND ",
            $($rest),+
        )
    };
}

const BY_NAME: &str = listed!("(sort_name, log_id) > ($2, $3) ORDER BY sort_name, log_id LIMIT $4");

const BY_SIZE: &str =
    listed!("(members, log_id) < ($2, $3) ORDER BY members DESC, log_id DESC LIMIT $4");

impl Store {
    /// Some listed channels, by name, after a place; before all names is the empty one.
    pub(crate) async fn listed_by_name(
        &self,
        tenant_id: &TenantId,
        (name, log_id): &(String, LogId),
        limit: i64,
    ) -> Result<Vec<Listed>, Error> {
        let query = self.db.read(BY_NAME).bind(tenant_id.as_str()).bind(name.as_str());
        let rows: Vec<Joined<NamedRow, ListedRow>> =
            query.bind(log_id.0).bind(limit).fetch_all().await?;
        let listed = rows.into_iter().map(|Joined(named, listed)| listed.listed(named));
        Ok(listed.collect::<Result<_, _>>()?)
    }

    /// Some listed channels, those with most members first, after a place.
    pub(crate) async fn listed_by_size(
        &self,
        tenant_id: &TenantId,
        (members, log_id): (i64, LogId),
        limit: i64,
    ) -> Result<Vec<Listed>, Error> {
        let query = self.db.read(BY_SIZE).bind(tenant_id.as_str()).bind(members);
        let rows: Vec<Joined<NamedRow, ListedRow>> =
            query.bind(log_id.0).bind(limit).fetch_all().await?;
        let listed = rows.into_iter().map(|Joined(named, listed)| listed.listed(named));
        Ok(listed.collect::<Result<_, _>>()?)
    }

    /// Those of the rooms that are there in which keys end with memberships.
    pub(crate) async fn with_bound_keys(&self, changed: &[Changed]) -> Result<Vec<Room>, Error> {
        let select = concat!(
            "SELECT ",
            selected!(),
            " FROM rooms WHERE log_id IN ($2..) AND state = $1 AND bound_keys <> '{}'"
        );
        let query = self.db.read(select).bind(State::Active as i16);
        many(query.bind_list(changed.iter().map(|changed| changed.log_id.0))).await
    }

    /// Notes how many members a room has. What was told later stays.
    pub(crate) async fn note_members(&self, changed: &Changed) -> Result<(), Error> {
        let note = "UPDATE rooms SET members = $2, members_change = $3
                    WHERE log_id = $1 AND members_change < $3";
        let note = self.db.write(note).bind(changed.log_id.0).bind(changed.members);
        note.bind(changed.changes).execute().await?;
        Ok(())
    }
}
