//! Requests that may be repeated: what was answered to a request id, so that a repeat gets
//! the first answer.
//!
//! A request id is one of its caller's: of a user, or of a backend that acts for the tenant.
//! It stands for one RPC with one payload; with another it is refused. One that is
//! [`in_room`](RequestKey::in_room) is of one life of that room: in a later life it is new.
//! The record is written in the transaction of the change that the request makes, and kept
//! for 7 days; then [`prune`] takes it away.
//!
//! A service that uses this has [`MIGRATIONS`] beside its own.

use std::sync::Arc;
use std::time::Duration;

use parlance_db::{Conn, Db, Migrations, StoreError};
use parlance_rpc::{Caller, Tasks, Violation, fields};
use parlance_types::{Clock, LogId, Micros, RequestId, RoomId, TenantId, UserId};
use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The table of what was answered. Its migrations are numbered from 2001.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();

/// How long a record is kept.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// How often older ones are looked for.
const EVERY: Duration = Duration::from_mins(1);

/// How many go in one step.
const STEP: u32 = 500;

/// Names an attempt, so that its repeat is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    tenant_id: TenantId,
    /// The user; empty, which no user can be, for callers that act for the tenant.
    user: String,
    /// The room that the request is about.
    room_id: Option<RoomId>,
    /// Whether it is about the present life of the room only.
    of_life: bool,
    /// Of a backend that acts for the tenant, an id among its own.
    request_id: RequestId,
    /// Hash of everything that was asked.
    hash: [u8; 32],
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was not made before.
    New,
    /// It was made, about this log, and answered so.
    Repeat { log_id: LogId, reply: Vec<u8> },
    /// Its id stands for something else.
    Reused,
}

impl RequestKey {
    /// The name of the attempt that `message` is, if it has a request id. The hash covers the
    /// RPC and every field: maps are sorted, and defaults are not encoded.
    pub fn of(
        caller: &Caller,
        rpc: &str,
        request_id: &str,
        message: &impl Message,
    ) -> Result<Option<Self>, Violation> {
        let request_id = fields::request_id(caller, request_id.to_owned())?;
        Ok(request_id.map(|request_id| {
            let mut hash = Sha256::new_with_prefix(rpc);
            hash.update([0]);
            hash.update(message.encode_to_vec());
            Self {
                tenant_id: caller.tenant_id.clone(),
                user: caller.user().map_or("", UserId::as_str).to_owned(),
                room_id: None,
                of_life: false,
                request_id,
                hash: hash.finalize().into(),
            }
        }))
    }

    /// The same name, of one life of a room.
    #[must_use]
    pub fn in_room(self, room_id: RoomId) -> Self {
        Self { room_id: Some(room_id), of_life: true, ..self }
    }

    /// The same name, of what one request does to each of several rooms, whatever their life.
    #[must_use]
    pub fn for_room(self, room_id: RoomId) -> Self {
        Self { room_id: Some(room_id), of_life: false, ..self }
    }

    /// The room that it is of a life of.
    pub const fn room_id(&self) -> Option<&RoomId> {
        if self.of_life { self.room_id.as_ref() } else { None }
    }

    /// The room in the record: empty, which no room can be, where there is none.
    fn room(&self) -> &str {
        self.room_id.as_ref().map_or("", RoomId::as_str)
    }

    /// What is known of the request. `life` is the present one of its room: what it did in
    /// an earlier one counts as long as the room has no other.
    pub async fn find(&self, conn: &mut Conn, life: Option<LogId>) -> Result<Found, StoreError> {
        let select = "SELECT hash, log_id, reply FROM requests
                      WHERE tenant_id = $1 AND caller = $2 AND room_id = $3 AND request_id = $4";
        let select = conn.query(select).bind(self.tenant_id.as_str()).bind(&self.user);
        let found: Option<(Vec<u8>, Uuid, Vec<u8>)> =
            select.bind(self.room()).bind(self.request_id.as_str()).fetch_optional().await?;
        Ok(match found {
            None => Found::New,
            Some((_, log_id, _)) if life.is_some_and(|life| life.0 != log_id) => Found::New,
            Some((hash, log_id, reply)) if hash == self.hash => {
                Found::Repeat { log_id: LogId(log_id), reply }
            }
            Some(_) => Found::Reused,
        })
    }

    /// Keeps the answer to the request, in place of one of an earlier life of its room.
    /// `false`: another took the id meanwhile.
    pub async fn record(
        &self,
        tx: &mut Conn,
        log_id: LogId,
        reply: &[u8],
        now: Micros,
    ) -> Result<bool, StoreError> {
        let insert = "INSERT INTO requests
                        (tenant_id, caller, room_id, request_id, hash, log_id, reply, create_time)
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                      ON CONFLICT (tenant_id, caller, room_id, request_id) DO UPDATE
                        SET hash = excluded.hash, log_id = excluded.log_id,
                            reply = excluded.reply, create_time = excluded.create_time
                      WHERE requests.room_id <> '' AND requests.log_id <> excluded.log_id";
        let insert = tx.query(insert).bind(self.tenant_id.as_str()).bind(&self.user);
        let insert = insert.bind(self.room()).bind(self.request_id.as_str());
        let insert = insert.bind(self.hash.as_slice());
        Ok(insert.bind(log_id.0).bind(reply).bind(now).execute().await? == 1)
    }
}

/// Forgets the requests about a log, so that a retry begins afresh.
pub async fn forget(tx: &mut Conn, log_id: LogId) -> Result<(), StoreError> {
    tx.query("DELETE FROM requests WHERE log_id = $1").bind(log_id.0).execute().await.map(drop)
}

/// Takes away the records that were kept long enough, as one of the `tasks`. Any number of
/// replicas may do it.
pub fn prune(name: &'static str, tasks: &Tasks, db: Db, clock: Arc<dyn Clock>) {
    tasks.every(name, EVERY, Arc::default(), move || {
        let (db, now) = (db.clone(), clock.now());
        async move { prune_all(&db, now).await }
    });
}

async fn prune_all(db: &Db, now: Micros) -> Result<(), StoreError> {
    let kept = Micros::try_from(KEPT.as_micros()).unwrap_or(Micros::MAX);
    // What is read may be written anew before it goes.
    let delete = "DELETE FROM requests WHERE create_time < $1
                    AND (tenant_id, caller, room_id, request_id) IN
                        (SELECT tenant_id, caller, room_id, request_id FROM requests
                          WHERE create_time < $1 ORDER BY create_time LIMIT $2)";
    loop {
        let delete = db.write(delete).bind(now.saturating_sub(kept)).bind(i64::from(STEP));
        if delete.execute().await? < u64::from(STEP) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
