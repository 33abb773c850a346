//! Requests that may be repeated: what was answered to a request id, so that a repeat gets
//! the first answer.
//!
//! A request id is one of its caller's: of a user, or of a backend that acts for the tenant.
//! It stands for one RPC with one payload; with another it is refused. The record is
//! written in the transaction of the change that the request makes.
//!
//! A service that uses this has [`MIGRATIONS`] beside its own.

use parlance_db::{Conn, Migrations, StoreError};
use parlance_rpc::{Caller, Violation, fields};
use parlance_types::{LogId, Micros, RequestId, TenantId, UserId};
use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The table of what was answered. Its migrations are numbered from 2001.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();

/// Names an attempt, so that its repeat is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    tenant_id: TenantId,
    /// The user; empty, which no user can be, for callers that act for the tenant.
    user: String,
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
                request_id,
                hash: hash.finalize().into(),
            }
        }))
    }

    /// What is known of the request.
    pub async fn find(&self, conn: &mut Conn) -> Result<Found, StoreError> {
        let select = "SELECT hash, log_id, reply FROM requests
                      WHERE tenant_id = $1 AND caller = $2 AND request_id = $3";
        let select = conn.query(select).bind(self.tenant_id.as_str()).bind(&self.user);
        let found: Option<(Vec<u8>, Uuid, Vec<u8>)> =
            select.bind(self.request_id.as_str()).fetch_optional().await?;
        Ok(match found {
            None => Found::New,
            Some((hash, log_id, reply)) if hash == self.hash => {
                Found::Repeat { log_id: LogId(log_id), reply }
            }
            Some(_) => Found::Reused,
        })
    }

    /// Keeps the answer to the request. `false`: another took the id meanwhile.
    pub async fn record(
        &self,
        tx: &mut Conn,
        log_id: LogId,
        reply: &[u8],
        now: Micros,
    ) -> Result<bool, StoreError> {
        let insert = "INSERT INTO requests
                        (tenant_id, caller, request_id, hash, log_id, reply, create_time)
                      VALUES ($1, $2, $3, $4, $5, $6, $7)
                      ON CONFLICT (tenant_id, caller, request_id) DO NOTHING";
        let insert = tx.query(insert).bind(self.tenant_id.as_str()).bind(&self.user);
        let insert = insert.bind(self.request_id.as_str()).bind(self.hash.as_slice());
        Ok(insert.bind(log_id.0).bind(reply).bind(now).execute().await? == 1)
    }
}

/// Forgets the requests about a log, so that a retry begins afresh.
pub async fn forget(tx: &mut Conn, log_id: LogId) -> Result<(), StoreError> {
    tx.query("DELETE FROM requests WHERE log_id = $1").bind(log_id.0).execute().await.map(drop)
}
