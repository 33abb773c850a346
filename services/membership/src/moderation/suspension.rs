//! Who is kept out of everything in the tenant.

use parlance_rpc::Caller;
use parlance_types::Micros;

use crate::roster::Refused;

/// That a user is kept out of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspension {
    pub(crate) until: Micros,
    pub(crate) reason: String,
}

/// A user who was suspended; it may be over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SuspendedUser {
    pub(crate) user_id: String,
    pub(crate) suspension: Suspension,
    pub(crate) since: Micros,
}

/// Whether a caller may suspend users.
pub(crate) fn may_suspend(caller: &Caller) -> Result<(), Refused> {
    match caller.user() {
        Some(_) => Err(Refused::NotAllowed("only services and operators suspend users")),
        None => Ok(()),
    }
}
