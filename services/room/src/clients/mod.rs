//! The services below. Every call is idempotent, so one that an outage hit is tried again.

mod members;
mod roster;
mod seats;
mod user_logs;

pub(crate) use members::Members;
pub(crate) use roster::Rosters;
pub(crate) use seats::{Seats, Taken};
pub(crate) use user_logs::UserLogs;
