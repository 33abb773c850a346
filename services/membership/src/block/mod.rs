//! Whom users have blocked.

use parlance_types::{Micros, TenantId, UserId};

pub(crate) mod grpc;
pub(crate) mod store;

/// A user who blocks another, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocking {
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: UserId,
    pub(crate) other: UserId,
    pub(crate) blocked: bool,
}

/// A user who is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) user_id: String,
    pub(crate) since: Micros,
}
