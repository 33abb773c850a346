//! The services below. Every call is idempotent, so one that an outage hit is tried again.

use parlance_rpc::{CallError, Deadline, Peer, Reason};
use tonic::{Request, Response, Status};

use crate::Error;
use crate::room::Actor;

mod filters;
mod members;
mod roster;
mod seats;
mod tenants;
mod user_logs;

pub(crate) use filters::{ContentFilter, Filters};
pub(crate) use members::Members;
pub(crate) use roster::{Changed, Rosters};
pub(crate) use seats::{Seats, Taken};
pub(crate) use tenants::{TenantRules, Tenants};
pub(crate) use user_logs::UserLogs;

/// Calls a service on behalf of an actor. What is not there has no roster.
async fn call<C, M, R, F, W>(
    peer: &Peer<C>,
    actor: &Actor,
    deadline: Deadline,
    message: M,
    rpc: F,
) -> Result<R, Error>
where
    C: Clone,
    M: Clone,
    F: Fn(C, Request<M>) -> W,
    W: Future<Output = Result<Response<R>, Status>>,
{
    let reply = peer.call(&actor.tenant_id, actor.user.as_ref(), deadline, message, rpc);
    reply.await.map_err(|error: CallError| match error.given() {
        Some(Reason::LogNotFound | Reason::RoomNotFound) => Error::NoRoster,
        _ => Error::Call(error),
    })
}
