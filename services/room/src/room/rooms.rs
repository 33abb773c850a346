//! The rooms of all tenants, and what every change of one shares.

use std::sync::Arc;

use parlance_outbox::Outbox;
use parlance_rpc::{Deadline, Env, Tasks, detached};
use parlance_types::{Clock, LogId, Micros, RoomId, RoomKind};
use uuid::{NoContext, Timestamp, Uuid};

use super::store::{Revised, Store};
use super::{Actor, Role, Room, State, codec};
use crate::Error;
use crate::clients::{Members, Rosters};

/// The rooms of all tenants. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    pub(super) store: Store,
    pub(super) rosters: Rosters,
    pub(super) members: Members,
    pub(super) outbox: Outbox,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: Tasks,
}

impl Rooms {
    pub(crate) fn new(
        env: &Env,
        store: Store,
        rosters: Rosters,
        members: Members,
        outbox: Outbox,
    ) -> Self {
        let (clock, tasks) = (Arc::clone(&env.clock), env.tasks.clone());
        Self { store, rosters, members, outbox, clock, tasks }
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    /// Runs a change to its end, also if its caller goes away meanwhile: it is not left
    /// half-way. What it awaits is bounded, so it ends; the end of the process waits for it.
    pub(crate) fn change<T, W>(
        &self,
        deadline: Deadline,
        work: W,
    ) -> impl Future<Output = Result<T, Error>> + use<T, W>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        deadline.bound(detached(self.tasks.track(work)))
    }

    /// Lets a room that is there change by itself. What it tells comes with it; `None`: nothing
    /// changed.
    pub(super) async fn revise_by_itself(
        &self,
        log_id: LogId,
        deadline: Deadline,
        revise: impl FnOnce(&mut Room, Micros) -> Option<codec::Event> + Send + 'static,
    ) -> Result<(), Error> {
        let rooms = self.clone();
        self.change(deadline, async move {
            let now = rooms.now();
            let revised = rooms.store.revise(log_id, None, now, |room| {
                let event = revise(room, now);
                Ok(Revised { event, reply: Vec::new(), done: () })
            });
            match revised.await {
                Ok((room, ())) => rooms.settle(&room, deadline).await,
                Err(Error::RoomNotFound) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    pub(crate) const fn rosters(&self) -> &Rosters {
        &self.rosters
    }

    /// A room that is there.
    pub(crate) async fn active(&self, actor: &Actor, room_id: &RoomId) -> Result<Room, Error> {
        let room = self.store.by_room_id(&actor.tenant_id, room_id).await?;
        room.filter(|room| room.state == State::Active).ok_or(Error::RoomNotFound)
    }

    /// The role of the acting user in one room; in a broadcast, everybody's.
    pub(crate) async fn role(
        &self,
        actor: &Actor,
        room: &Room,
        deadline: Deadline,
    ) -> Result<Option<Role>, Error> {
        Ok(self.member(actor, room, deadline).await?.map(|(role, _)| role))
    }

    /// The same, and since when they have been a member.
    pub(crate) async fn member(
        &self,
        actor: &Actor,
        room: &Room,
        deadline: Deadline,
    ) -> Result<Option<(Role, Micros)>, Error> {
        // Asked of a broadcast, too: who is suspended is refused.
        let roles = self.rosters.roles(actor, &[room.log_id], deadline).await?;
        if room.kind == RoomKind::Broadcast {
            return Ok(Some((Role::Member, 0)));
        }
        Ok(roles.first().copied().flatten())
    }

    /// A new id, never used before; those of later milliseconds are greater.
    pub(super) fn fresh_id(&self) -> Uuid {
        let now = u64::try_from(self.clock.now()).unwrap_or_default();
        let nanos = u32::try_from(now % 1_000_000 * 1000).unwrap_or_default();
        Uuid::new_v7(Timestamp::from_unix(NoContext, now / 1_000_000, nanos))
    }

    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }
}
