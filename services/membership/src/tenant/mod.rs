//! What operators decided for a tenant, as far as it has to hold here.

pub(crate) mod grpc;
pub(crate) mod store;

/// What was decided, as of a version of the tenant's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TenantRules {
    /// At least 1.
    pub(crate) version: i64,
    /// `None`: as many as come.
    pub(crate) max_users: Option<i64>,
    /// Whether users who are blocked from now on are told nothing of it.
    pub(crate) silent_blocks: bool,
}
