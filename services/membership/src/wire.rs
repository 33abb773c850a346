//! What the gRPC services of callers share.

use parlance_rpc::{Caller, Deadline, caller};
use tonic::{Request, Status};

/// Who calls, until when, and what is asked.
pub(crate) fn open<T>(request: Request<T>) -> Result<(Caller, Deadline, T), Status> {
    let caller = caller(&request)?;
    let deadline = Deadline::of(&request).reserve();
    Ok((caller, deadline, request.into_inner()))
}
