//! What every change of a room shares.

use std::sync::Arc;
use std::time::Duration;

use parlance_rpc::carry;
use parlance_types::{Clock, LogId, Micros, RequestId, RoomId};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::{NoContext, Timestamp, Uuid};

use super::{Actor, Role, Room, State};
use crate::Error;
use crate::clients::{Facts, Roster};
use crate::store::Store;

/// When a call must have been answered.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

/// A request that a caller may repeat.
#[derive(Clone, Debug)]
pub struct Repeatable {
    pub request_id: RequestId,
    /// Hash of everything that the request says, its RPC included.
    pub payload_hash: [u8; 32],
}

/// The outcome of a change that may be repeated.
#[derive(Clone, Debug)]
pub enum Changed {
    /// The room as this call left it.
    Now(Box<Room>),
    /// A repeat: the encoded room of the first reply; empty if it had none.
    Before(Vec<u8>),
}

/// The rooms of all tenants. Clones share them.
#[derive(Clone, Debug)]
pub struct Rooms {
    pub(super) store: Store,
    pub(super) roster: Roster,
    pub(super) facts: Facts,
    pub(super) clock: Arc<dyn Clock>,
    /// Changes under way, which a cancelled request does not cancel.
    pub(super) changes: TaskTracker,
}

impl Deadline {
    pub fn within(left: Duration) -> Self {
        Self(Instant::now() + left)
    }

    /// The time left.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Waits for `work` no longer than this.
    pub async fn bound<T>(self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout_at(self.0, work).await.unwrap_or(Err(Error::Deadline))
    }
}

impl Rooms {
    pub(crate) fn new(store: Store, roster: Roster, facts: Facts, clock: Arc<dyn Clock>) -> Self {
        Self { store, roster, facts, clock, changes: TaskTracker::new() }
    }

    /// Runs a change in a task of its own: if the caller goes away it is not left
    /// half-way. What it awaits is bounded, so it ends.
    pub(super) async fn change<T, W>(&self, deadline: Deadline, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let task = self.changes.spawn(carry(work));
        deadline.bound(async { task.await.unwrap_or_else(|cut| Err(Error::Cut(cut))) }).await
    }

    /// Waits until no change is under way.
    pub(crate) async fn settled(&self) {
        self.changes.close();
        self.changes.wait().await;
    }

    /// A room that is there.
    pub(super) async fn active(&self, actor: &Actor, room_id: &RoomId) -> Result<Room, Error> {
        let room = self.store.by_room_id(&actor.tenant_id, room_id).await?;
        room.filter(|room| room.state == State::Active).ok_or(Error::RoomNotFound)
    }

    /// The role of the acting user in one room.
    pub(super) async fn role(
        &self,
        actor: &Actor,
        room: &Room,
        deadline: Deadline,
    ) -> Result<Option<Role>, Error> {
        let roles = self.roster.roles(actor, &[room.log_id], deadline).await?;
        Ok(roles.first().copied().flatten())
    }

    /// What a repeat of `request` is told; `None` if this is the first time.
    pub(super) async fn before(
        &self,
        actor: &Actor,
        request: Option<&Repeatable>,
    ) -> Result<Option<(LogId, Vec<u8>)>, Error> {
        let Some(request) = request else { return Ok(None) };
        let Some(record) = self.store.record(actor, &request.request_id).await? else {
            return Ok(None);
        };
        if record.payload_hash != request.payload_hash {
            return Err(Error::RequestIdReused);
        }
        Ok(Some((record.log_id, record.room)))
    }

    /// A new id, never used before; those of later milliseconds are greater.
    pub(super) fn fresh_id(&self) -> Uuid {
        let now = u64::try_from(self.clock.now()).unwrap_or_default();
        let nanos = u32::try_from(now % 1_000_000 * 1000).unwrap_or_default();
        Uuid::new_v7(Timestamp::from_unix(NoContext, now / 1_000_000, nanos))
    }

    pub(super) fn now(&self) -> Micros {
        self.clock.now()
    }
}
