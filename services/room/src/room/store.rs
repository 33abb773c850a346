//! Rooms in SQL: finding them and moving them through their lives.

use std::sync::Arc;

use parlance_db::{Conn, Db, Query};
use parlance_outbox::{enqueue, register};
use parlance_requests::{Found, RequestKey, forget, prune};
use parlance_rpc::Tasks;
use parlance_types::{Clock, LogId, Micros, TenantId, UserId};

use super::janitor::{ABANDONED_GRACE, GRACE};
use super::row::{RoomRow, columns, json, selected};
use super::{Actor, Change, Room, State, UniqueId, codec};
use crate::Error;

/// The states in which the ids of a room are taken. Written out and not bound: the indexes
/// of ids hold these rooms only, and a database uses them only where it reads the same.
macro_rules! held {
    () => {
        "state IN (1, 2, 3)"
    };
}

macro_rules! select {
    ($($condition:expr),+) => {
        concat!("SELECT ", selected!(), " FROM rooms WHERE ", $($condition),+)
    };
}

const INSERT: &str = concat!(
    "INSERT INTO rooms (",
    columns!(),
    ", sort_name, due_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
     $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33,
     $34, $35, $36, $37, $38)
     ON CONFLICT DO NOTHING"
);

/// Locks a room in a state until the transaction ends, and reads it.
const LOCK: &str = concat!(
    "UPDATE rooms SET version = version WHERE log_id = $1 AND state = $2 RETURNING ",
    selected!()
);

const UPDATE: &str = "
    UPDATE rooms SET name = $2, picture = $3, description = $4, metadata = $5, post_rule = $6,
        add_rule = $7, remove_rule = $8, join_rule = $9, allow_preview = $10, history = $11,
        capacity = $12, version = $13, rules_version = $14, update_time = $15, due_time = $16,
        key_owners = $17, metadata_rule = $18, retention = $19, fields = $20, kept = $21,
        visibility = $22, sort_name = $23, bound_keys = $24, slow_mode = $25,
        edit_window = $26, delete_window = $27
    WHERE log_id = $1";

/// The rooms of all tenants, on disk.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    db: Db,
}

/// What a change of a room comes to.
pub(crate) struct Revised<T> {
    /// What is told of it; `None`: nothing changed.
    pub event: Option<codec::Event>,
    /// What a repeat of the request is told.
    pub reply: Vec<u8>,
    pub done: T,
}

/// Keeps the reply to a request. Fails with `RequestIdReused` if the request was made before.
async fn record(
    tx: &mut Conn,
    request: Option<&RequestKey>,
    log_id: LogId,
    reply: &[u8],
    now: Micros,
) -> Result<(), Error> {
    let Some(request) = request else { return Ok(()) };
    let recorded = request.record(tx, log_id, reply, now).await?;
    if recorded { Ok(()) } else { Err(Error::RequestIdReused) }
}

async fn one(query: Query<'_>) -> Result<Option<Room>, Error> {
    let row: Option<RoomRow> = query.fetch_optional().await?;
    Ok(row.map(Room::try_from).transpose()?)
}

async fn many(query: Query<'_>) -> Result<Vec<Room>, Error> {
    let rows: Vec<RoomRow> = query.fetch_all().await?;
    Ok(rows.into_iter().map(Room::try_from).collect::<Result<_, _>>()?)
}

mod due;
mod find;
mod follow;
mod listed;
mod of_tenant;

pub(crate) use of_tenant::{SETTINGS, TenantRow, limit, lock_tenant};

impl Store {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) const fn db(&self) -> &Db {
        &self.db
    }

    /// Takes away requests that were kept long enough, as one of the `tasks`.
    pub(crate) fn prune_requests(&self, tasks: &Tasks, clock: Arc<dyn Clock>) {
        prune("room requests", tasks, self.db.clone(), clock);
    }

    /// What is known of a request; a reply is an encoded room, or empty.
    pub(crate) async fn found(
        &self,
        tenant_id: &TenantId,
        request: &RequestKey,
    ) -> Result<Found, Error> {
        let life = match request.room_id() {
            Some(room_id) => self.by_room_id(tenant_id, room_id).await?.map(|room| room.log_id),
            None => None,
        };
        Ok(request.find(&mut self.db.reader().await?, life).await?)
    }

    /// Stores a room that is to be, with the request that asks for it. `false`: one of its
    /// ids, or its pair, is taken. Fails with `RequestIdReused` if the request was made before,
    /// and with `QuotaExceeded` and `TooManyBroadcasts`.
    pub(crate) async fn insert(
        &self,
        room: &Room,
        request: Option<&RequestKey>,
    ) -> Result<bool, Error> {
        let mut tx = self.db.begin().await?;
        let reply = codec::encode_room(room);
        record(&mut tx, request, room.log_id, &reply, room.create_time).await?;
        let settings = &room.settings;
        let inserted = tx
            .query(INSERT)
            .bind(room.tenant_id.as_str())
            .bind(room.log_id.0)
            .bind(room.room_id.as_str())
            .bind(room.unique_id.as_ref().map(UniqueId::as_str))
            .bind(room.kind as i16)
            .bind(room.name.as_str())
            .bind(room.picture.as_str())
            .bind(room.description.as_str())
            .bind(json(room.metadata.get()))
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
            .bind(json(&room.key_owners))
            .bind(settings.metadata as i16)
            .bind(settings.retention)
            .bind(json(&room.fields.to_store()))
            .bind(room.kept)
            .bind(room.visibility as i16)
            .bind(settings.windows.slow_mode)
            .bind(settings.windows.edit)
            .bind(settings.windows.delete)
            .bind(room.sort_name())
            .bind(room.create_time.saturating_add(GRACE))
            .execute()
            .await?;
        if inserted == 0 {
            return Ok(false);
        }
        of_tenant::admit(&mut tx, room).await?;
        register(&mut tx, &codec::outbox_log(room)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// `creating` → `active`. `false`: it is not in creation.
    pub(crate) async fn activate(&self, log_id: LogId) -> Result<bool, Error> {
        // The roster was opened with the first version of the rules.
        let activated = self
            .db
            .write(
                "UPDATE rooms SET state = $2, pushed_rules_version = rules_version,
                     due_time = NULL
                 WHERE log_id = $1 AND state = $3",
            )
            .bind(log_id.0)
            .bind(State::Active as i16)
            .bind(State::Creating as i16)
            .execute()
            .await?;
        Ok(activated == 1)
    }

    /// `creating` → `abandoned`, its request forgotten, so that a retry begins
    /// afresh. `false`: it is not in creation.
    pub(crate) async fn abandon(&self, log_id: LogId, now: Micros) -> Result<bool, Error> {
        let mut tx = self.db.begin().await?;
        let abandon = "UPDATE rooms SET state = $2, due_time = $3 WHERE log_id = $1 AND state = $4
                       RETURNING tenant_id, kind";
        let abandoned: Vec<_> = tx
            .query(abandon)
            .bind(log_id.0)
            .bind(State::Abandoned as i16)
            .bind(now.saturating_add(ABANDONED_GRACE))
            .bind(State::Creating as i16)
            .fetch_all()
            .await?;
        if abandoned.is_empty() {
            return Ok(false);
        }
        of_tenant::release(&mut tx, abandoned).await?;
        forget(&mut tx, log_id).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Changes a room that is there; its fact and its request's record come with it.
    /// Fails with `RequestIdReused` if the request was made before.
    pub(crate) async fn update(
        &self,
        log_id: LogId,
        change: &Change,
        actor: &Actor,
        request: Option<&RequestKey>,
        now: Micros,
    ) -> Result<Room, Error> {
        self.revise(log_id, request, now, |room| {
            let event = change.apply(room, actor, now)?;
            let event = event.map(|event| codec::updated_event(room, &event));
            Ok(Revised { event, reply: codec::encode_room(room), done: () })
        })
        .await
        .map(|(room, ())| room)
    }

    /// Lets `revise` change a room that is there, under its lock. What it tells, and the reply
    /// to the request, come with it: of a room that tells nothing nothing changed.
    /// Fails with `RequestIdReused` if the request was made before.
    pub(crate) async fn revise<T>(
        &self,
        log_id: LogId,
        request: Option<&RequestKey>,
        now: Micros,
        revise: impl FnOnce(&mut Room) -> Result<Revised<T>, Error>,
    ) -> Result<(Room, T), Error> {
        let mut tx = self.db.begin().await?;
        let lock = tx.query(LOCK).bind(log_id.0).bind(State::Active as i16);
        let mut room = one(lock).await?.ok_or(Error::RoomNotFound)?;
        let Revised { event, reply, done } = revise(&mut room)?;
        if let Some(event) = event {
            let settings = &room.settings;
            tx.query(UPDATE)
                .bind(log_id.0)
                .bind(room.name.as_str())
                .bind(room.picture.as_str())
                .bind(room.description.as_str())
                .bind(json(room.metadata.get()))
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
                .bind(json(&room.key_owners))
                .bind(settings.metadata as i16)
                .bind(settings.retention)
                .bind(json(&room.fields.to_store()))
                .bind(room.kept)
                .bind(room.visibility as i16)
                .bind(room.sort_name())
                .bind(json(&room.bound_keys))
                .bind(settings.windows.slow_mode)
                .bind(settings.windows.edit)
                .bind(settings.windows.delete)
                .execute()
                .await?;
            enqueue(&mut tx, log_id, &[event]).await?;
        }
        record(&mut tx, request, log_id, &reply, now).await?;
        tx.commit().await?;
        Ok((room, done))
    }

    /// Notes that the roster has a version of the rules.
    pub(crate) async fn rules_pushed(&self, log_id: LogId, version: i64) -> Result<(), Error> {
        self.db
            .write(
                "UPDATE rooms SET pushed_rules_version = $2,
                     due_time = CASE WHEN rules_version <= $2 THEN NULL ELSE due_time END
                 WHERE log_id = $1 AND state = $3 AND pushed_rules_version < $2",
            )
            .bind(log_id.0)
            .bind(version)
            .bind(State::Active as i16)
            .execute()
            .await?;
        Ok(())
    }

    /// `active` → `deleting`, with the request's record; a room in deletion stays so.
    /// Returns who began it: of several at once the first.
    /// Fails with `RequestIdReused` if the request was made before.
    pub(crate) async fn begin_deletion(
        &self,
        log_id: LogId,
        actor: &Actor,
        request: Option<&RequestKey>,
        now: Micros,
    ) -> Result<Option<UserId>, Error> {
        let mut tx = self.db.begin().await?;
        let deleting: Option<(Option<String>,)> = tx
            .query(
                "UPDATE rooms SET due_time = $2, update_time = $3,
                     deleter = CASE WHEN state = $5 THEN $4 ELSE deleter END, state = $6
                 WHERE log_id = $1 AND state IN ($5, $6) RETURNING deleter",
            )
            .bind(log_id.0)
            .bind(now.saturating_add(GRACE))
            .bind(now)
            .bind(actor.user.as_ref().map(UserId::as_str))
            .bind(State::Active as i16)
            .bind(State::Deleting as i16)
            .fetch_optional()
            .await?;
        let (deleter,) = deleting.ok_or(Error::RoomNotFound)?;
        record(&mut tx, request, log_id, &[], now).await?;
        tx.commit().await?;
        Ok(deleter.map(UserId::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_held_in_the_states_that_the_indexes_name() {
        let held = [State::Creating, State::Active, State::Deleting].map(|state| state as i16);
        let numbers = held.map(|number| number.to_string()).join(", ");
        assert_eq!(held!(), format!("state IN ({numbers})"));
    }
}
