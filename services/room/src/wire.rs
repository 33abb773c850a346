//! Who calls. A user comes into being at the first call.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parlance_rpc::{Deadline, Failure as _, Reason};
use parlance_types::{Clock, Micros, TenantId, UserId};
use tonic::{Request, Status};

use crate::Error;
use crate::clients::Rosters;
use crate::room::Actor;

/// Users of whom is remembered when they were asked for.
const REMEMBERED: u64 = 100_000;

/// How long a user who was there and not suspended is taken to be so still.
const ASK_EVERY: Micros = 60_000_000;

/// How long a first call waits for membership.
const FIRST_CALL: Duration = Duration::from_secs(1);

/// Those who call, over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    rosters: Rosters,
    /// When users were asked for. They are never deleted, but may be suspended.
    known: Cache<(TenantId, UserId), Micros>,
    clock: Arc<dyn Clock>,
}

impl Callers {
    pub(crate) fn new(rosters: Rosters, clock: Arc<dyn Clock>) -> Self {
        Self { rosters, known: Cache::new(REMEMBERED), clock }
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
    /// call of one who is not known tries again. Who is asked for a user's roles or rooms, or to
    /// let them in, knows at once that they are suspended; for the rest it is asked once a minute.
    async fn ensure_user(&self, actor: &Actor, deadline: Deadline) -> Result<(), Error> {
        let Some(user_id) = &actor.user else { return Ok(()) };
        let key = (actor.tenant_id.clone(), user_id.clone());
        let (now, known) = (self.clock.now(), self.known.get(&key));
        if known.is_some_and(|asked| now.abs_diff(asked) < ASK_EVERY.unsigned_abs()) {
            return Ok(());
        }
        match self.rosters.ensure_user(actor, deadline.at_most(FIRST_CALL)).await {
            Ok(()) => self.known.insert(key, now),
            Err(error) if matches!(error.reason(), Reason::Suspended | Reason::QuotaExceeded) => {
                return Err(error);
            }
            Err(error) => {
                tracing::debug!(%error, "a user waits for membership");
                // They exist. Not each of their calls waits for an answer.
                if known.is_some() {
                    self.known.insert(key, now);
                }
            }
        }
        Ok(())
    }
}
