//! Users who call for the first time.

use std::time::Duration;

use moka::sync::Cache;
use parlance_types::{TenantId, UserId};

use crate::clients::Roster;
use crate::domain::{Actor, Deadline};

/// Users that are remembered to exist. Users are never deleted.
const REMEMBERED: u64 = 100_000;

/// How long a first call waits for membership.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lets users come into being at their first call.
#[derive(Clone, Debug)]
pub(crate) struct Newcomers {
    roster: Roster,
    known: Cache<(TenantId, UserId), ()>,
}

impl Newcomers {
    pub(crate) fn new(roster: Roster) -> Self {
        Self { roster, known: Cache::new(REMEMBERED) }
    }

    /// Sees to it that the acting user exists. If membership cannot be reached the
    /// call goes on without: what needs the user asks membership itself, and the next
    /// call tries again.
    pub(crate) async fn welcome(&self, actor: &Actor, deadline: Deadline) {
        let Some(user_id) = &actor.user else { return };
        let key = (actor.tenant_id.clone(), user_id.clone());
        if self.known.contains_key(&key) {
            return;
        }
        let soon = Deadline::within(deadline.left().min(PATIENCE));
        match self.roster.ensure_user(actor, soon).await {
            Ok(()) => self.known.insert(key, ()),
            Err(error) => tracing::debug!(%error, "a new user waits for membership"),
        }
    }
}
