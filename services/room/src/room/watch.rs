//! What room learns of who comes and goes.
//!
//! Membership calls nobody above it. It keeps which of the rosters changed that room watches, until
//! room, which asks every second, has acknowledged them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parlance_rpc::{Deadline, Tasks};
use parlance_types::{Micros, Pairs};

use super::{BoundKeys, Room, Rooms, codec};
use crate::Error;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one room may take of that.
const PATIENCE_OF_ONE: Duration = Duration::from_secs(3);

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
            let mut changed = self.rosters.changed(deadline).await?;
            if changed.is_empty() {
                return Ok(());
            }
            for changed in &changed {
                deadline.bound(self.store.note_members(changed)).await?;
            }
            let mut failed = None;
            for room in deadline.bound(self.store.with_bound_keys(&changed)).await? {
                let patience = deadline.at_most(PATIENCE_OF_ONE);
                if let Err(error) = self.end_keys(&room, patience).await {
                    let (log_id, source) = (room.log_id, &error as &dyn std::error::Error);
                    tracing::warn!(%log_id, error = source, "keys of who left wait");
                    changed.retain(|changed| changed.log_id != log_id);
                    failed = Some(error);
                }
            }
            if !changed.is_empty() {
                self.rosters.acknowledge(&changed, deadline).await?;
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    /// Deletes the keys of a room whose owners' memberships are over.
    async fn end_keys(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        let present = match self.rosters.joined(room, &room.bound_keys.users(), deadline).await {
            Ok(present) => present,
            // It is over, or not known: nobody is said to have left.
            Err(Error::NoRoster) => return Ok(()),
            Err(error) => return Err(error),
        };
        let over = room.bound_keys.over(&present);
        if over.is_empty() {
            return Ok(());
        }
        let end_keys = move |room: &mut Room, now| room.end_keys(&over, now);
        self.revise_by_itself(room.log_id, deadline, end_keys).await
    }
}

impl Room {
    /// Deletes keys whose owners' memberships are over, unless somebody set them anew meanwhile.
    fn end_keys(&mut self, over: &BoundKeys, now: Micros) -> Option<codec::Event> {
        let rules = self.roster_rules();
        let ended = self.bound_keys.end(over, &self.key_owners);
        if ended.is_empty() {
            return None;
        }
        let mut pairs = self.metadata.get().clone();
        for key in &ended {
            pairs.remove(key);
            self.key_owners.remove(key);
        }
        self.metadata = Pairs::stored(pairs);
        self.revised(now);
        self.rules_version += i64::from(rules != self.roster_rules());
        Some(codec::patched_event(None, BTreeMap::new(), ended))
    }
}
