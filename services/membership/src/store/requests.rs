//! Answered requests, kept so that a repeat gets the first reply.

use parlance_types::{LogId, Micros};
use uuid::Uuid;

use super::{Tx, in_tx};
use crate::Error;
use crate::domain::{Actor, RequestKey};

/// A request that was answered.
pub(super) struct Answered {
    pub(super) log_id: LogId,
    pub(super) reply: Vec<u8>,
}

/// Callers that act for nobody share one name, which no user can have.
fn name(actor: &Actor) -> &str {
    actor.user.as_ref().map_or("", |user| user.as_str())
}

impl Tx {
    /// The answer that this request got, if it is a repeat. Fails with
    /// `RequestIdReused` if its id stands for something else.
    pub(super) async fn answered(
        &mut self,
        actor: &Actor,
        request: &RequestKey,
    ) -> Result<Option<Answered>, Error> {
        let row: Option<(Vec<u8>, Uuid, Vec<u8>)> = in_tx!(self, |tx| {
            sqlx::query_as(
                "SELECT hash, log_id, reply FROM requests
                 WHERE tenant_id = $1 AND caller = $2 AND request_id = $3",
            )
            .bind(actor.tenant_id.as_str())
            .bind(name(actor))
            .bind(request.request_id.as_str())
            .fetch_optional(&mut **tx)
            .await
        })?;
        match row {
            None => Ok(None),
            Some((hash, log_id, reply)) if hash == request.hash => {
                Ok(Some(Answered { log_id: LogId(log_id), reply }))
            }
            Some(_) => Err(Error::RequestIdReused),
        }
    }

    /// Keeps the answer to a request. `false`: another took the id meanwhile.
    pub(super) async fn record(
        &mut self,
        actor: &Actor,
        request: &RequestKey,
        log_id: LogId,
        reply: &[u8],
        now: Micros,
    ) -> Result<bool, Error> {
        let written = in_tx!(self, |tx| {
            sqlx::query(
                "INSERT INTO requests
                   (tenant_id, caller, request_id, hash, log_id, reply, create_time)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (tenant_id, caller, request_id) DO NOTHING",
            )
            .bind(actor.tenant_id.as_str())
            .bind(name(actor))
            .bind(request.request_id.as_str())
            .bind(request.hash.as_slice())
            .bind(log_id.0)
            .bind(reply)
            .bind(now)
            .execute(&mut **tx)
            .await
            .map(|done| done.rows_affected())
        })?;
        Ok(written == 1)
    }
}
