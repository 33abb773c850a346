//! Who calls. A user comes into being at the first call.

use std::time::Duration;

use moka::sync::Cache;
use parlance_rpc::{Deadline, Failure as _, Reason};
use parlance_types::{TenantId, UserId};
use tonic::{Request, Status};

use crate::Error;
use crate::clients::Rosters;
use crate::room::Actor;

/// Users that are remembered to exist. Users are never deleted.
const REMEMBERED: u64 = 100_000;

/// How long a first call waits for membership.
const FIRST_CALL: Duration = Duration::from_secs(1);

/// Those who call, over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    rosters: Rosters,
    known: Cache<(TenantId, UserId), ()>,
}

impl Callers {
    pub(crate) fn new(rosters: Rosters) -> Self {
        Self { rosters, known: Cache::new(REMEMBERED) }
    }

    /// Who calls, until when, and what.
    pub(crate) async fn open<T>(
        &self,
        request: Request<T>,
    ) -> Result<(Actor, Deadline, T), Status> {
        let actor = Actor::from(parlance_rpc::caller(&request)?);
        let deadline = Deadline::of(&request);
        self.ensure_user(&actor, deadline).await?;
        Ok((actor, deadline, request.into_inner()))
    }

    /// Sees to it that the acting user exists. If membership cannot be reached the
    /// call goes on without: what needs the user asks membership itself, and the next
    /// call tries again. Whether a user who is known is suspended tells whoever is asked for
    /// their roles, their rooms, or to let them in.
    async fn ensure_user(&self, actor: &Actor, deadline: Deadline) -> Result<(), Error> {
        let Some(user_id) = &actor.user else { return Ok(()) };
        let key = (actor.tenant_id.clone(), user_id.clone());
        if self.known.contains_key(&key) {
            return Ok(());
        }
        match self.rosters.ensure_user(actor, deadline.at_most(FIRST_CALL)).await {
            Ok(()) => self.known.insert(key, ()),
            Err(error) if error.reason() == Reason::Suspended => return Err(error),
            Err(error) => tracing::debug!(%error, "a new user waits for membership"),
        }
        Ok(())
    }
}
