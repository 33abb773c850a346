//! What room learns of who comes and goes.
//!
//! Membership calls nobody above it. It keeps which of the rosters changed that room watches, until
//! room, which asks every second, has acknowledged them.

use std::sync::Arc;
use std::time::Duration;

use parlance_rpc::{Deadline, Tasks};

use super::Rooms;
use crate::Error;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Rooms {
    /// Asks from now on in which watched rooms somebody came or went, as one of the `tasks`. Any
    /// number of replicas may do it.
    pub(crate) fn run_watch(&self, tasks: &Tasks) {
        let rooms = self.clone();
        tasks.every("changed rosters", EVERY, Arc::default(), move || {
            let rooms = rooms.clone();
            async move { rooms.learn_changes().await }
        });
    }

    async fn learn_changes(&self) -> Result<(), Error> {
        let deadline = Deadline::within(PATIENCE);
        loop {
            let changed = self.rosters.changed(deadline).await?;
            if changed.is_empty() {
                return Ok(());
            }
            for changed in &changed {
                deadline.bound(self.store.note_members(changed)).await?;
            }
            self.rosters.acknowledge(&changed, deadline).await?;
        }
    }
}
