//! Rooms: finding them and moving them through their lives.

use parlance_db::{WritePool as _, read_db, write_db};
use parlance_outbox::{enqueue, register};
use parlance_types::{LogId, Micros, RoomId, TenantId, UserId};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::requests::insert_record;
use super::row::{RoomRow, columns, json};
use super::{Inserted, Store};
use crate::domain::{
    ABANDONED_GRACE, Actor, Change, GRACE, Pair, Repeatable, Room, State, UniqueId,
};
use crate::{Error, codec};

const INSERT: &str = concat!(
    "INSERT INTO rooms (",
    columns!(),
    ", due_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
     $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28) ON CONFLICT DO NOTHING"
);

/// Locks a room that is there until the transaction ends, and reads it.
const LOCK_ACTIVE: &str = concat!(
    "UPDATE rooms SET version = version WHERE log_id = $1 AND state = 2 RETURNING ",
    columns!()
);

const UPDATE: &str = "
    UPDATE rooms SET name = $2, picture = $3, description = $4, metadata = $5, post_rule = $6,
        add_rule = $7, remove_rule = $8, join_rule = $9, allow_preview = $10, history = $11,
        capacity = $12, version = $13, rules_version = $14, update_time = $15, due_time = $16
    WHERE log_id = $1";

/// Reads at most one row.
macro_rules! read_one {
    ($store:expr, $condition:literal, $($value:expr),+) => {{
        let row: Option<RoomRow> = read_db!(&$store.db, |pool| {
            sqlx::query_as(concat!("SELECT ", columns!(), " FROM rooms WHERE ", $condition))
                $(.bind($value))+
                .fetch_optional(pool)
                .await?
        });
        row.map(Room::try_from).transpose()
    }};
}

/// Reads the rows of a tenant that have one of `$keys` in `$column`.
macro_rules! read_many {
    ($store:expr, $tenant_id:expr, $column:literal, $keys:expr) => {{
        let sql = concat!("SELECT ", columns!(), " FROM rooms WHERE tenant_id = $1 AND ", $column);
        let mut rows: Vec<RoomRow> = Vec::new();
        if !$keys.is_empty() {
            let places: Vec<_> = (2..$keys.len() + 2).map(|n| format!("${n}")).collect();
            let sql = format!("{sql} IN ({})", places.join(", "));
            rows = read_db!(&$store.db, |pool| {
                let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind($tenant_id.as_str());
                for key in $keys {
                    query = query.bind(key);
                }
                query.fetch_all(pool).await?
            });
        }
        rows.into_iter().map(Room::try_from).collect()
    }};
}

impl Store {
    /// The room that holds an id: in creation, there or in deletion.
    pub(crate) async fn by_room_id(
        &self,
        tenant_id: &TenantId,
        room_id: &RoomId,
    ) -> Result<Option<Room>, Error> {
        read_one!(
            self,
            "tenant_id = $1 AND room_id = $2 AND state IN (1, 2, 3)",
            tenant_id.as_str(),
            room_id.as_str()
        )
    }

    /// The channel that holds a unique id.
    pub(crate) async fn by_unique_id(
        &self,
        tenant_id: &TenantId,
        unique_id: &UniqueId,
    ) -> Result<Option<Room>, Error> {
        read_one!(
            self,
            "tenant_id = $1 AND unique_id = $2 AND state IN (1, 2, 3)",
            tenant_id.as_str(),
            unique_id.as_str()
        )
    }

    /// The direct room of a pair.
    pub(crate) async fn by_pair(
        &self,
        tenant_id: &TenantId,
        pair: &Pair,
    ) -> Result<Option<Room>, Error> {
        read_one!(
            self,
            "tenant_id = $1 AND pair_low = $2 AND pair_high = $3 AND state IN (1, 2, 3)",
            tenant_id.as_str(),
            pair.low().as_str(),
            pair.high().as_str()
        )
    }

    /// One life of a room, whatever its state.
    pub(crate) async fn by_log_id(&self, log_id: LogId) -> Result<Option<Room>, Error> {
        read_one!(self, "log_id = $1", log_id.0)
    }

    pub(crate) async fn by_room_ids(
        &self,
        tenant_id: &TenantId,
        room_ids: &[RoomId],
    ) -> Result<Vec<Room>, Error> {
        let ids: Vec<&str> = room_ids.iter().map(RoomId::as_str).collect();
        read_many!(self, tenant_id, "state IN (1, 2, 3) AND room_id", &ids)
    }

    pub(crate) async fn by_unique_ids(
        &self,
        tenant_id: &TenantId,
        unique_ids: &[UniqueId],
    ) -> Result<Vec<Room>, Error> {
        let ids: Vec<&str> = unique_ids.iter().map(UniqueId::as_str).collect();
        read_many!(self, tenant_id, "state IN (1, 2, 3) AND unique_id", &ids)
    }

    pub(crate) async fn by_log_ids(
        &self,
        tenant_id: &TenantId,
        log_ids: &[LogId],
    ) -> Result<Vec<Room>, Error> {
        let ids: Vec<Uuid> = log_ids.iter().map(|log_id| log_id.0).collect();
        read_many!(self, tenant_id, "log_id", &ids)
    }

    /// Rooms that the janitor should look at, the longest due first.
    pub(crate) async fn due(&self, now: Micros, limit: i64) -> Result<Vec<Room>, Error> {
        let rows: Vec<RoomRow> = read_db!(&self.db, |pool| {
            sqlx::query_as(concat!(
                "SELECT ",
                columns!(),
                " FROM rooms WHERE due_time <= $1 ORDER BY due_time LIMIT $2"
            ))
            .bind(now)
            .bind(limit)
            .fetch_all(pool)
            .await?
        });
        rows.into_iter().map(Room::try_from).collect()
    }

    /// Stores a room that is to be, with the request that asks for it.
    pub(crate) async fn insert(
        &self,
        room: &Room,
        actor: &Actor,
        request: Option<&Repeatable>,
    ) -> Result<Inserted, Error> {
        write_db!(&self.db, |pool| {
            let mut tx = pool.begin_write().await?;
            if let Some(request) = request
                && !insert_record!(tx, actor, request, room.log_id, codec::encode_room(room))
            {
                tx.rollback().await?;
                return Ok(Inserted::Repeat);
            }
            let settings = &room.settings;
            let inserted = sqlx::query(INSERT)
                .bind(room.tenant_id.as_str())
                .bind(room.log_id.0)
                .bind(room.room_id.as_str())
                .bind(room.unique_id.as_ref().map(UniqueId::as_str))
                .bind(room.kind as i16)
                .bind(room.name.as_str())
                .bind(room.picture.as_str())
                .bind(room.description.as_str())
                .bind(json(room.metadata.pairs()))
                .bind(settings.post as i16)
                .bind(settings.add as i16)
                .bind(settings.remove as i16)
                .bind(settings.join as i16)
                .bind(settings.allow_preview)
                .bind(settings.history as i16)
                .bind(settings.capacity)
                .bind(room.creator.as_ref().map(UserId::as_str))
                .bind(room.pair.as_ref().map(|pair| pair.low().as_str()))
                .bind(room.pair.as_ref().map(|pair| pair.high().as_str()))
                .bind(json(&room.founding))
                .bind(room.state as i16)
                .bind(room.version)
                .bind(room.rules_version)
                .bind(room.pushed_rules_version)
                .bind(room.deleter.as_ref().map(UserId::as_str))
                .bind(room.create_time)
                .bind(room.update_time)
                .bind(room.create_time.saturating_add(GRACE))
                .execute(&mut *tx)
                .await?
                .rows_affected();
            if inserted == 0 {
                tx.rollback().await?;
                return Ok(Inserted::Taken);
            }
            register(&mut tx, &codec::outbox_log(room)).await?;
            tx.commit().await?;
        });
        Ok(Inserted::Done)
    }

    /// `creating` → `active`. `false`: it is not in creation.
    pub(crate) async fn activate(&self, log_id: LogId) -> Result<bool, Error> {
        // The roster was opened with the first version of the rules.
        let activated = write_db!(&self.db, |pool| {
            sqlx::query(
                "UPDATE rooms SET state = 2, pushed_rules_version = rules_version, due_time = NULL
                 WHERE log_id = $1 AND state = 1",
            )
            .bind(log_id.0)
            .execute(pool)
            .await?
            .rows_affected()
        });
        Ok(activated == 1)
    }

    /// `creating` → `abandoned`, its request forgotten, so that a retry begins
    /// afresh. `false`: it is not in creation.
    pub(crate) async fn abandon(&self, log_id: LogId, now: Micros) -> Result<bool, Error> {
        write_db!(&self.db, |pool| {
            let mut tx = pool.begin_write().await?;
            let abandoned = sqlx::query(
                "UPDATE rooms SET state = 5, due_time = $2 WHERE log_id = $1 AND state = 1",
            )
            .bind(log_id.0)
            .bind(now.saturating_add(ABANDONED_GRACE))
            .execute(&mut *tx)
            .await?
            .rows_affected();
            if abandoned == 0 {
                tx.rollback().await?;
                return Ok(false);
            }
            sqlx::query("DELETE FROM requests WHERE log_id = $1")
                .bind(log_id.0)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
        });
        Ok(true)
    }

    /// Changes a room that is there; its fact and its request's record come with it.
    /// Fails with `RequestIdReused` if the request was made before.
    pub(crate) async fn update(
        &self,
        log_id: LogId,
        change: &Change,
        actor: &Actor,
        request: Option<&Repeatable>,
        now: Micros,
    ) -> Result<Room, Error> {
        write_db!(&self.db, |pool| {
            let mut tx = pool.begin_write().await?;
            let row: Option<RoomRow> =
                sqlx::query_as(LOCK_ACTIVE).bind(log_id.0).fetch_optional(&mut *tx).await?;
            let mut room: Room = row.ok_or(Error::RoomNotFound)?.try_into()?;
            if let Some(event) = change.apply(&mut room, actor, now)? {
                let settings = &room.settings;
                sqlx::query(UPDATE)
                    .bind(log_id.0)
                    .bind(room.name.as_str())
                    .bind(room.picture.as_str())
                    .bind(room.description.as_str())
                    .bind(json(room.metadata.pairs()))
                    .bind(settings.post as i16)
                    .bind(settings.add as i16)
                    .bind(settings.remove as i16)
                    .bind(settings.join as i16)
                    .bind(settings.allow_preview)
                    .bind(settings.history as i16)
                    .bind(settings.capacity)
                    .bind(room.version)
                    .bind(room.rules_version)
                    .bind(room.update_time)
                    .bind(room.rules_pending().then_some(now.saturating_add(GRACE)))
                    .execute(&mut *tx)
                    .await?;
                enqueue(&mut tx, log_id, &[codec::updated_event(&room, &event)]).await?;
            }
            if let Some(request) = request
                && !insert_record!(tx, actor, request, log_id, codec::encode_room(&room))
            {
                tx.rollback().await?;
                return Err(Error::RequestIdReused);
            }
            tx.commit().await?;
            Ok(room)
        })
    }

    /// Notes that the roster has a version of the rules.
    pub(crate) async fn rules_pushed(&self, log_id: LogId, version: i64) -> Result<(), Error> {
        write_db!(&self.db, |pool| {
            sqlx::query(
                "UPDATE rooms SET pushed_rules_version = $2,
                     due_time = CASE WHEN rules_version <= $2 THEN NULL ELSE due_time END
                 WHERE log_id = $1 AND state = 2 AND pushed_rules_version < $2",
            )
            .bind(log_id.0)
            .bind(version)
            .execute(pool)
            .await?;
        });
        Ok(())
    }

    /// `active` → `deleting`, with the request's record; a room in deletion stays so.
    /// Returns who began it: of several at once the first.
    /// Fails with `RequestIdReused` if the request was made before.
    pub(crate) async fn begin_deletion(
        &self,
        log_id: LogId,
        actor: &Actor,
        request: Option<&Repeatable>,
        now: Micros,
    ) -> Result<Option<UserId>, Error> {
        write_db!(&self.db, |pool| {
            let mut tx = pool.begin_write().await?;
            let deleting: Option<Option<String>> = sqlx::query_scalar(
                "UPDATE rooms SET due_time = $2, update_time = $3,
                     deleter = CASE WHEN state = 2 THEN $4 ELSE deleter END, state = 3
                 WHERE log_id = $1 AND state IN (2, 3) RETURNING deleter",
            )
            .bind(log_id.0)
            .bind(now.saturating_add(GRACE))
            .bind(now)
            .bind(actor.user.as_ref().map(UserId::as_str))
            .fetch_optional(&mut *tx)
            .await?;
            let Some(deleter) = deleting else {
                tx.rollback().await?;
                return Err(Error::RoomNotFound);
            };
            if let Some(request) = request
                && !insert_record!(tx, actor, request, log_id, Vec::<u8>::new())
            {
                tx.rollback().await?;
                return Err(Error::RequestIdReused);
            }
            tx.commit().await?;
            Ok(deleter.map(UserId::new))
        })
    }

    /// `deleting` → `deleted`. One that never was stays `abandoned`, so that whoever
    /// still drives its creation learns that. Nothing is left to do for either.
    pub(crate) async fn bury(&self, log_id: LogId) -> Result<(), Error> {
        write_db!(&self.db, |pool| {
            sqlx::query(
                "UPDATE rooms SET state = CASE WHEN state = 3 THEN 4 ELSE state END,
                     due_time = NULL
                 WHERE log_id = $1 AND state IN (3, 5)",
            )
            .bind(log_id.0)
            .execute(pool)
            .await?;
        });
        Ok(())
    }

    /// Lets the janitor look again at `until`, if there is still something left.
    pub(crate) async fn postpone(
        &self,
        log_id: LogId,
        state: State,
        until: Micros,
    ) -> Result<(), Error> {
        write_db!(&self.db, |pool| {
            sqlx::query(
                "UPDATE rooms SET due_time = $3
                 WHERE log_id = $1 AND state = $2 AND due_time IS NOT NULL",
            )
            .bind(log_id.0)
            .bind(state as i16)
            .bind(until)
            .execute(pool)
            .await?;
        });
        Ok(())
    }
}
