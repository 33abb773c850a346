//! The services below. Every call is idempotent, so one that an outage hit is tried again.

mod notices;
mod roster;
mod seats;

use parlance_rpc::Reason;

pub(crate) use notices::Notices;
pub(crate) use roster::{Members, Rosters};
pub(crate) use seats::Seats;

/// Refusals that concern the caller of this service.
const PASSES: &[Reason] = &[
    Reason::RoomNotFound,
    Reason::NotAMember,
    Reason::BroadcastRoom,
    Reason::Muted,
    Reason::Suspended,
    Reason::QuotaExceeded,
    Reason::Blocked,
    Reason::RateLimited,
    Reason::Overloaded,
];
