//! Users, rosters and what may be done to them. Knows neither gRPC nor SQL.

mod change;
mod decide;
mod roster;
mod user;

pub use change::{Change, Decision, Outcome, Refused, RequestKey, Scene, Step};
pub use decide::{Viewer, admit, decide, may_open, may_read};
pub use roster::{
    Grant, JoinRule, MemberRow, MemberRule, Membership, NewRoster, Role, RoomKind, Roster, Rules,
    State,
};
pub use user::{InvalidUser, Profile, User};

use parlance_types::{TenantId, UserId};

/// Who acts, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub tenant_id: TenantId,
    /// `None`: nobody; the caller acts for the tenant.
    pub user: Option<UserId>,
}
