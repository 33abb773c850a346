//! What every service stands on.

use std::sync::Arc;

use parlance_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::{Internal, Tasks};

/// What the services of a process share.
///
/// Every service has one shape: `open(env, database, .., options)` puts it together,
/// `public()` and `internal()` are its gRPC services, and `run()` starts what it does beside
/// requests, which ends with [`Tasks::close`].
#[derive(Clone, Debug)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    /// Makes requests to the services below.
    pub internal: Internal,
    pub tasks: Tasks,
    /// Cancelled when streams shall end.
    pub draining: CancellationToken,
}

impl Env {
    /// What a service stands on that shares it with no other.
    pub fn new(clock: Arc<dyn Clock>, internal: Internal) -> Self {
        Self { clock, internal, tasks: Tasks::default(), draining: CancellationToken::new() }
    }
}
