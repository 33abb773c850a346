//! The gRPC face of the service: decode, call the domain, encode.

mod codec;
mod keep;
mod parse;
mod presence;
mod session;
mod status;
mod streams;
mod typing;
mod watch;

use std::time::Duration;

use parlance_rpc::{Caller, caller, remaining};
use tonic::{Request, Status};

pub use self::presence::PresenceGrpc;
pub use self::session::SessionGrpc;
pub(crate) use self::streams::Streams;
pub use self::typing::TypingGrpc;
use crate::Error;
use crate::domain::User;

/// Who calls, for how long, and what.
fn open<T>(request: Request<T>) -> Result<(Caller, Duration, T), Status> {
    Ok((caller(&request)?, remaining(&request), request.into_inner()))
}

fn user(caller: &Caller) -> Result<User, Status> {
    Ok((caller.tenant_id.clone(), caller.require_user()?.clone()))
}

/// Waits for a call of the domain as long as its request may take.
async fn within<T>(
    left: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(left, call).await.unwrap_or(Err(Error::Deadline))
}
