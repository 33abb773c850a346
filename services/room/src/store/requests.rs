//! What was answered to requests that may be repeated.

use parlance_db::read_db;
use parlance_types::{LogId, RequestId};
use uuid::Uuid;

use super::Store;
use crate::Error;
use crate::domain::Actor;

/// What a request came to.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) payload_hash: Vec<u8>,
    /// The log of the room that it was about.
    pub(crate) log_id: LogId,
    /// The encoded room of the reply; empty if it had none.
    pub(crate) room: Vec<u8>,
}

/// Records a request in a transaction; the value says whether it is the first.
macro_rules! insert_record {
    ($tx:expr, $actor:expr, $request:expr, $log_id:expr, $room:expr) => {
        sqlx::query(
            "INSERT INTO requests (tenant_id, caller, request_id, payload_hash, log_id, room)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind($actor.tenant_id.as_str())
        .bind($crate::store::requests::caller($actor))
        .bind($request.request_id.as_str())
        .bind($request.payload_hash.as_slice())
        .bind($log_id.0)
        .bind($room)
        .execute(&mut *$tx)
        .await?
        .rows_affected()
            == 1
    };
}
pub(super) use insert_record;

/// The key of a caller: no user has an empty id.
pub(super) fn caller(actor: &Actor) -> &str {
    actor.user.as_ref().map_or("", |user| user.as_str())
}

impl Store {
    /// What a request of this id came to.
    pub(crate) async fn record(
        &self,
        actor: &Actor,
        request_id: &RequestId,
    ) -> Result<Option<Record>, Error> {
        let row: Option<(Vec<u8>, Uuid, Vec<u8>)> = read_db!(&self.db, |pool| {
            sqlx::query_as(
                "SELECT payload_hash, log_id, room FROM requests
                 WHERE tenant_id = $1 AND caller = $2 AND request_id = $3",
            )
            .bind(actor.tenant_id.as_str())
            .bind(caller(actor))
            .bind(request_id.as_str())
            .fetch_optional(pool)
            .await?
        });
        Ok(row.map(|(payload_hash, log_id, room)| {
            let log_id = LogId(log_id);
            Record { payload_hash, log_id, room }
        }))
    }
}
