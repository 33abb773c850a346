//! Finishing what callers left behind.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parlance_rpc::Deadline;
use parlance_types::Micros;

use super::{Room, Rooms, State};
use crate::Error;

/// How often the janitor looks.
const EVERY: Duration = Duration::from_secs(2);

/// How long the caller of a change has before the janitor steps in, and how long
/// the janitor waits after a failure.
pub(crate) const GRACE: Micros = 5_000_000;

/// How long after a room was given up its roster is closed once more: longer than
/// any call that opens it may be under way.
pub(crate) const ABANDONED_GRACE: Micros = 60_000_000;

/// How long one room may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Rooms looked at in one go, and how many of them at once.
const BATCH: i64 = 200;
const AT_ONCE: usize = 8;

impl Rooms {
    /// Finishes creations, deletions and pushes of rules that were left, at the start and
    /// every two seconds, and takes away old request ids. Any number of replicas may run it.
    ///
    /// A room is whole or absent within 20 seconds from when membership and
    /// message answer again.
    pub(crate) fn run_janitor(&self) {
        self.store.prune_requests(&self.tasks, Arc::clone(&self.clock));
        let rooms = self.clone();
        self.tasks.every("room janitor", EVERY, Arc::default(), move || {
            let rooms = rooms.clone();
            async move { rooms.tidy().await }
        });
    }

    async fn tidy(&self) -> Result<(), Error> {
        let deadline = Deadline::within(PATIENCE);
        let now = self.now();
        let mut due = deadline.bound(self.store.due(now, BATCH)).await?;
        // Further ahead than any due time: the clock that gave it was.
        let ahead = self.store.due_after(now.saturating_add(ABANDONED_GRACE), BATCH);
        due.append(&mut deadline.bound(ahead).await?);
        let finish = |room| async move { self.tidy_up(&room).await };
        futures::stream::iter(due).for_each_concurrent(AT_ONCE, finish).await;
        // Last: how long a count takes goes with the tenant, and no room waits for it.
        Deadline::within(PATIENCE).bound(self.store.recount(now)).await
    }

    /// Finishes what is left of one room, in a task that a shutdown waits for.
    async fn tidy_up(&self, room: &Room) {
        let deadline = Deadline::within(PATIENCE);
        let (rooms, left) = (self.clone(), room.clone());
        let finished =
            self.change(deadline, async move { rooms.finish(&left, deadline).await }).await;
        let Err(error) = finished else { return };
        let log_id = room.log_id;
        tracing::warn!(%log_id, error = &error as &dyn std::error::Error, "a room waits");
        // A creation that failed for good was given up on the way.
        let until = self.now().saturating_add(GRACE);
        let postponed = deadline.bound(self.store.postpone(room.log_id, room.state, until)).await;
        if let Err(error) = postponed {
            tracing::warn!(%log_id, error = &error as &dyn std::error::Error, "cannot postpone");
        }
    }

    async fn finish(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        match room.state {
            State::Creating => self.finish_creation(room, deadline).await,
            State::Active => self.push_rules(room, deadline).await,
            State::Deleting | State::Abandoned => self.finish_deletion(room, deadline).await,
            State::Deleted => Ok(()),
        }
    }
}
