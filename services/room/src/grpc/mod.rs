//! The gRPC face of the service: decode, call the domain, encode.

mod decode;
mod list;
mod operator;
mod room;
mod status;

pub use list::RoomListGrpc;
pub use operator::OperatorGrpc;
pub use room::RoomGrpc;

use parlance_rpc::remaining;
use tonic::{Request, Status};

use crate::domain::{Actor, Deadline};
use crate::newcomers::Newcomers;

/// Who calls, until when, and what. A user comes into being at the first call.
async fn open<T>(
    newcomers: &Newcomers,
    request: Request<T>,
) -> Result<(Actor, Deadline, T), Status> {
    let caller = parlance_rpc::caller(&request)?;
    let user = caller.user().cloned();
    let backend = user.is_none().then_some(caller.subject);
    let actor = Actor { tenant_id: caller.tenant_id, user, backend };
    let deadline = Deadline::within(remaining(&request));
    newcomers.welcome(&actor, deadline).await;
    Ok((actor, deadline, request.into_inner()))
}
