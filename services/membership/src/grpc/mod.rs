//! The RPCs: decode, call, encode.

mod membership;
mod operator;
mod parse;
mod roster;
mod user;

use std::time::Duration;

use parlance_outbox::Outbox;
use parlance_rpc::{Caller, Principal, carry, remaining};
use parlance_types::RoomId;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Status};

use crate::Error;
use crate::domain::{Actor, Refused, Roster, Viewer, may_read};
use crate::store::{Done, Store};

pub use membership::Memberships;
pub use operator::Operators;
pub use roster::Rosters;
pub use user::Users;

/// How much of a request's time is kept for telling its caller how it went.
const REST: u32 = 10;

/// What every handler needs.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    pub(crate) store: Store,
    pub(crate) outbox: Outbox,
}

/// When a request must have been answered.
#[derive(Clone, Copy, Debug)]
struct Due(Instant);

impl Due {
    fn of<T>(request: &Request<T>) -> Self {
        let remaining = remaining(request);
        Self(Instant::now() + remaining - remaining / REST)
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

impl Handler {
    /// Waits for something that changes nothing, no longer than the caller does.
    async fn read<T>(
        &self,
        due: Due,
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout_at(due.0, read).await.unwrap_or(Err(Error::TimedOut))
    }

    /// Runs a transaction to its end, also if the caller goes away meanwhile.
    async fn write<T: Send + 'static>(
        &self,
        due: Due,
        write: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = tokio::spawn(carry(write));
        timeout_at(due.0, task).await.map_err(|_| Error::TimedOut)??
    }

    /// Runs a change to its end, then drives its log: what returns is in the log.
    async fn settle<T: Send + 'static>(
        &self,
        due: Due,
        change: impl Future<Output = Result<Done<T>, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let outbox = self.outbox.clone();
        let settled = async move {
            let Done { log_id, value } = change.await?;
            outbox.drive(log_id, due.left()).await.map_err(Error::Log)?;
            Ok(value)
        };
        // The drive ends in time by itself, and tells more than a timeout here.
        let task = tokio::spawn(carry(settled));
        let late = due.0 + Duration::from_millis(100);
        timeout_at(late, task).await.map_err(|_| Error::TimedOut)??
    }

    /// The roster of a room, if the actor may see its members.
    async fn look(&self, due: Due, actor: &Actor, room_id: &RoomId) -> Result<Roster, Error> {
        let seen = self.store.roster_seen_by(&actor.tenant_id, room_id, actor.user.as_ref());
        let (roster, row) = self.read(due, seen).await?.ok_or(Refused::RoomNotFound)?;
        let viewer = match &actor.user {
            Some(_) => Viewer::User(row.as_ref()),
            None => Viewer::Tenant,
        };
        may_read(&roster, viewer)?;
        Ok(roster)
    }

    /// Who acts. A user comes into being at the first call.
    async fn actor(&self, due: Due, caller: &Caller) -> Result<Actor, Status> {
        let actor = actor(caller);
        if let Some(user_id) = &actor.user
            && !matches!(caller.principal, Principal::Internal(_))
        {
            self.read(due, self.store.ensure_user(&actor.tenant_id, user_id)).await?;
        }
        Ok(actor)
    }
}

fn actor(caller: &Caller) -> Actor {
    Actor { tenant_id: caller.tenant_id.clone(), user: caller.user().cloned() }
}
