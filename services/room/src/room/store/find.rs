//! Finding rooms.

use parlance_db::StoreError;
use parlance_types::{LogId, RoomId, TenantId};
use uuid::Uuid;

use super::{Store, many, one};
use crate::Error;
use crate::room::row::{Named, NamedRow, selected};
use crate::room::{Pair, Room, State, UniqueId};

/// Rooms by one of their ids: those of the tenant $1 whose ids are listed from $2 on.
macro_rules! listed {
    ($id:literal) => {
        concat!(
            "SELECT ",
            selected!(),
            " FROM (VALUES ($1, $2..)) w JOIN rooms ON tenant_id = w.column1 AND ",
            $id,
            " = w.column2"
        )
    };
}

impl Store {
    /// The room that holds an id: in creation, there or in deletion.
    pub(crate) async fn by_room_id(
        &self,
        tenant_id: &TenantId,
        room_id: &RoomId,
    ) -> Result<Option<Room>, Error> {
        let select = select!("tenant_id = $1 AND room_id = $2 AND ", held!());
        one(self.db.read(select).bind(tenant_id.as_str()).bind(room_id.as_str())).await
    }

    /// The channel that holds a unique id.
    pub(crate) async fn by_unique_id(
        &self,
        tenant_id: &TenantId,
        unique_id: &UniqueId,
    ) -> Result<Option<Room>, Error> {
        let select = select!("tenant_id = $1 AND unique_id = $2 AND ", held!());
        one(self.db.read(select).bind(tenant_id.as_str()).bind(unique_id.as_str())).await
    }

    /// The direct room of a pair.
    pub(crate) async fn by_pair(
        &self,
        tenant_id: &TenantId,
        pair: &Pair,
    ) -> Result<Option<Room>, Error> {
        let select = select!("tenant_id = $1 AND pair_low = $2 AND pair_high = $3 AND ", held!());
        let query = self.db.read(select).bind(tenant_id.as_str());
        one(query.bind(pair.low().as_str()).bind(pair.high().as_str())).await
    }

    /// One life of a room, whatever its state.
    pub(crate) async fn by_log_id(&self, log_id: LogId) -> Result<Option<Room>, Error> {
        one(self.db.read(select!("log_id = $1")).bind(log_id.0)).await
    }

    pub(crate) async fn by_room_ids(
        &self,
        tenant_id: &TenantId,
        room_ids: &[RoomId],
    ) -> Result<Vec<Room>, Error> {
        let select = concat!(listed!("room_id"), " WHERE ", held!());
        let query = self.db.read(select).bind(tenant_id.as_str());
        many(query.bind_list(room_ids.iter().map(RoomId::as_str))).await
    }

    pub(crate) async fn by_unique_ids(
        &self,
        tenant_id: &TenantId,
        unique_ids: &[UniqueId],
    ) -> Result<Vec<Room>, Error> {
        let select = concat!(listed!("unique_id"), " WHERE ", held!());
        let query = self.db.read(select).bind(tenant_id.as_str());
        many(query.bind_list(unique_ids.iter().map(UniqueId::as_str))).await
    }

    pub(crate) async fn by_log_ids(
        &self,
        tenant_id: &TenantId,
        log_ids: &[LogId],
    ) -> Result<Vec<Room>, Error> {
        let query = self.db.read(listed!("log_id")).bind(tenant_id.as_str());
        many(query.bind_list(log_ids.iter().map(|log_id| log_id.0))).await
    }

    /// What rooms are called that are there, and their fields.
    pub(crate) async fn named(
        &self,
        tenant_id: &TenantId,
        log_ids: &[LogId],
    ) -> Result<Vec<Named>, Error> {
        let select = "
            SELECT log_id, kind, name, fields, (SELECT s.allowed_fields FROM tenant_settings s
                                           WHERE s.tenant_id = rooms.tenant_id) AS allowed_fields
            FROM (VALUES ($1, $3..)) w JOIN rooms ON tenant_id = w.column1 AND log_id = w.column2
            WHERE state = $2";
        let query = self.db.read(select).bind(tenant_id.as_str()).bind(State::Active as i16);
        let rows = query.bind_list(log_ids.iter().map(|log_id| log_id.0));
        let rows: Vec<NamedRow> = rows.fetch_all().await?;
        Ok(rows.into_iter().map(Named::try_from).collect::<Result<_, _>>()?)
    }

    /// Rooms that are there, by the ids of their logs.
    pub(crate) async fn active(&self, after: LogId, limit: i64) -> Result<Vec<LogId>, StoreError> {
        let select = "SELECT log_id FROM rooms WHERE log_id > $1 AND state = $2
                      ORDER BY log_id LIMIT $3";
        let query = self.db.read(select).bind(after.0).bind(State::Active as i16).bind(limit);
        let rows: Vec<(Uuid,)> = query.fetch_all().await?;
        Ok(rows.into_iter().map(|(log_id,)| LogId(log_id)).collect())
    }
}
