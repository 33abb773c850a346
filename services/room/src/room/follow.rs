//! Rooms that are there follow what their tenant decides for those that say nothing themselves.
//!
//! They begin a minute after the decision. By then every creation that had not seen it is over,
//! and its room is among those that are looked for.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parlance_rpc::{Deadline, Tasks};
use parlance_types::{LogId, Micros};

use super::{Room, RoomEvent, Rooms, codec};
use crate::Error;

/// How long after the decision: longer than a creation takes that no janitor finishes.
pub(crate) const FOLLOW: Micros = 60_000_000;

/// How often it is looked for tenants that decided something.
const EVERY: Duration = Duration::from_secs(2);

/// How long one look may take, and how long one room.
const LOOK: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(5);

/// Rooms of one tenant before another has its turn, and how many of them at once.
const BATCH: i64 = 100;
const AT_ONCE: usize = 8;

impl Room {
    /// Takes over how long events are kept from the tenant; `None`: nothing is new.
    fn follow_tenant(&mut self) -> Option<RoomEvent> {
        let keeps = self.keeps();
        (self.kept != keeps).then(|| {
            self.kept = keeps;
            RoomEvent { actor: None, changed: vec!["settings.retention"], rules_changed: true }
        })
    }
}

impl Rooms {
    /// Lets rooms follow their tenants, as one of the `tasks`. Any number of replicas may do it.
    pub(crate) fn run_followers(&self, tasks: &Tasks) {
        let rooms = self.clone();
        tasks.every("rooms that follow", EVERY, Arc::default(), move || {
            let rooms = rooms.clone();
            async move {
                let deadline = Deadline::within(LOOK);
                while !deadline.left().is_zero() && rooms.follow_some(deadline).await? {}
                Ok::<(), Error>(())
            }
        });
    }

    /// Lets some rooms of each tenant that decided something follow; whether there may be more.
    async fn follow_some(&self, deadline: Deadline) -> Result<bool, Error> {
        let mut more = false;
        for followed in deadline.bound(self.store.followed(self.now())).await? {
            let behind = deadline.bound(self.store.behind(&followed, BATCH)).await?;
            if behind.is_empty() {
                deadline.bound(self.store.all_follow(&followed)).await?;
            }
            more |= !behind.is_empty();
            let follow = |log_id| self.follow(log_id, Deadline::within(PATIENCE));
            let mut following = futures::stream::iter(behind).map(follow).buffer_unordered(AT_ONCE);
            while let Some(outcome) = following.next().await {
                match outcome {
                    // Its fact is on its way, whatever keeps it.
                    Ok(()) | Err(Error::Log(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(more)
    }

    /// Lets a room follow its tenant, if it is there.
    pub(super) async fn follow(&self, log_id: LogId, deadline: Deadline) -> Result<(), Error> {
        let follow = |room: &mut Room, _| {
            let event = room.follow_tenant();
            event.map(|event| codec::updated_event(room, &event))
        };
        self.revise_by_itself(log_id, deadline, follow).await
    }
}
