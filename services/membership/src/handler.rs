//! What the handlers of all nouns share.

use std::time::Duration;

use futures::stream::{self, TryStreamExt as _};
use parlance_outbox::Outbox;
use parlance_rpc::{Caller, Deadline, Principal, detached};
use parlance_types::{LogId, RoomId, TenantId, UserId};

use crate::Error;
use crate::roster::{Refused, Roster, Viewer, may_read};
use crate::store::person::not_suspended;
use crate::store::{Done, Store};

/// How much longer a caller waits for what ends in time by itself, and tells more than a
/// deadline does.
const GRACE: Duration = Duration::from_millis(100);

/// The most entries of a list in a request.
pub(crate) const MAX_LIST: usize = 100;

/// What every handler needs.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    pub(crate) store: Store,
    pub(crate) outbox: Outbox,
}

/// Who acts, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) tenant_id: TenantId,
    /// `None`: nobody; the caller acts for the tenant.
    pub(crate) user: Option<UserId>,
}

impl Actor {
    pub(crate) fn of(caller: &Caller) -> Self {
        Self { tenant_id: caller.tenant_id.clone(), user: caller.user().cloned() }
    }
}

impl Handler {
    /// Runs a change to its end, then drives its log: what returns is in the log.
    pub(crate) async fn settle<T: Send + 'static>(
        &self,
        deadline: Deadline,
        change: impl Future<Output = Result<Done<T>, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let outbox = self.outbox.clone();
        let settled = detached(async move {
            let Done { log_id, value } = change.await?;
            outbox.drive(log_id, deadline.left()).await.map_err(Error::of_log)?;
            Ok(value)
        });
        Deadline(deadline.0 + GRACE).bound(settled).await
    }

    /// The same of a change of several logs, which are told in their order, so many at once.
    pub(crate) async fn settle_all<T: Send + 'static>(
        &self,
        deadline: Deadline,
        at_once: usize,
        change: impl Future<Output = Result<(Vec<LogId>, T), Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let outbox = self.outbox.clone();
        let settled = detached(async move {
            let (log_ids, value) = change.await?;
            let outbox = &outbox;
            let drive = |log_id| async move {
                outbox.drive(log_id, deadline.left()).await.map_err(Error::of_log).map(drop)
            };
            stream::iter(log_ids.into_iter().map(Ok))
                .try_for_each_concurrent(at_once, drive)
                .await?;
            Ok(value)
        });
        Deadline(deadline.0 + GRACE).bound(settled).await
    }

    /// The roster of a room, if the actor may see its members.
    pub(crate) async fn readable_roster(
        &self,
        deadline: Deadline,
        actor: &Actor,
        room_id: &RoomId,
    ) -> Result<Roster, Error> {
        self.roster_seen(deadline, actor, room_id, may_read).await
    }

    /// The roster of a room that the actor may look at like this.
    pub(crate) async fn roster_seen(
        &self,
        deadline: Deadline,
        actor: &Actor,
        room_id: &RoomId,
        may: impl FnOnce(&Roster, Viewer<'_>) -> Result<(), Refused>,
    ) -> Result<Roster, Error> {
        let seen = self.store.roster_seen_by(&actor.tenant_id, room_id, actor.user.as_ref());
        let (roster, row) = deadline.bound(seen).await?.ok_or(Refused::RoomNotFound)?;
        let viewer = match &actor.user {
            Some(_) => Viewer::User(row.as_ref()),
            None => Viewer::Tenant,
        };
        may(&roster, viewer)?;
        Ok(roster)
    }

    /// Who acts. A user comes into being at the first call, and one who is suspended does not
    /// act.
    pub(crate) async fn actor(&self, deadline: Deadline, caller: &Caller) -> Result<Actor, Error> {
        let actor = Actor::of(caller);
        if let Some(user_id) = &actor.user
            && !matches!(caller.principal, Principal::Internal(_))
        {
            deadline.bound(self.store.ensure_user(&actor.tenant_id, user_id)).await?;
        }
        Ok(actor)
    }

    /// Refuses an actor who is suspended, for whom another service of the suite asks.
    pub(crate) async fn not_suspended(
        &self,
        deadline: Deadline,
        tenant_id: &TenantId,
        user_id: Option<&UserId>,
    ) -> Result<(), Error> {
        let look = async {
            let mut conn = self.store.db.reader().await?;
            let now = self.store.clock.now();
            not_suspended(&mut conn, tenant_id, user_id.into_iter(), now).await
        };
        if user_id.is_some() { deadline.bound(look).await } else { Ok(()) }
    }
}
