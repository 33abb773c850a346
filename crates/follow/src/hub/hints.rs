//! How a node hears of events: from its own writers, and by hints from the other nodes. Both
//! may fail; `head_check` finds what they did not bring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parlance_bus::{Heard as HeardOnBus, State};
use parlance_log::{Appended, EpochId, StoredEvent};
use parlance_types::{Seq, TenantId, UserId};
use tokio::sync::mpsc;

use super::wire::{self, Hints};
use super::{Inner, Log, count};
use crate::entry::Entry;
use crate::lock;
use crate::log::Missing;

impl Inner {
    /// Takes what a writer of this node stored. Does not block.
    pub(super) fn publish(self: &Arc<Self>, batch: &[Appended]) {
        for appended in batch {
            if let Some(log) = self.log(appended.log_id) {
                let last = appended.events.last().map_or(0, |event| event.seq);
                self.hear(&log, &appended.epoch, &appended.events, last);
            }
            for user in &appended.users {
                self.rooms_changed(&(appended.tenant_id.clone(), user.clone()));
            }
        }
        if self.bus.reaches_others() {
            for (shard, payload) in wire::of_batch(self.node, batch) {
                self.bus.publish(shard, payload);
            }
        }
    }

    /// Listens to the other nodes.
    pub(super) async fn listen(self: Arc<Self>, mut heard: mpsc::Receiver<HeardOnBus>) {
        while let Some(heard) = heard.recv().await {
            match heard {
                HeardOnBus::Payload(payload) => match wire::of_others(self.node, &payload) {
                    None => {}
                    Some(Ok(hints)) => self.take(&hints),
                    Some(Err(error)) => tracing::warn!(%error, "ignored a payload of the bus"),
                },
                HeardOnBus::Lagged => self.suspect_all(),
                HeardOnBus::Disturbed => {
                    self.suspect_all();
                    if self.bus_is_up() {
                        self.tell_notices_again();
                    }
                }
            }
        }
    }

    fn suspect_all(&self) {
        count(&self.counters.disturbed);
        self.check_now.notify_one();
    }

    fn take(self: &Arc<Self>, hints: &Hints) {
        for hint in &hints.logs {
            if let Some(log) = hint.log_id().and_then(|log_id| self.log(log_id)) {
                self.hear(&log, &hint.epoch(), &hint.events(), hint.last);
            }
            for user in hint.users() {
                self.rooms_changed(&user);
            }
        }
        let notices: Vec<_> = hints.notices().collect();
        self.heed(&notices);
        self.deliver(&notices);
    }

    fn hear(self: &Arc<Self>, log: &Arc<Log>, epoch: &EpochId, events: &[StoredEvent], last: Seq) {
        let known = match lock(&log.state).position() {
            Some((running, head)) if running == epoch => head,
            _ => 0,
        };
        let fresh = events.iter().filter(|event| event.seq > known);
        let entries = fresh.map(|event| Entry::encode(&log.place, event));
        let entries = entries.collect::<Result<Vec<_>, _>>().unwrap_or_else(|error| {
            tracing::error!(log_id = %log.place.log_id, %error, "could not read an event");
            Vec::new()
        });
        let mut state = lock(&log.state);
        let heard = state.hear(epoch, entries, last);
        if heard.advanced {
            state.wake(|mailbox| mailbox.ready(log.place.log_id));
        }
        drop(state);
        if heard.suspect {
            self.check_now.notify_one();
        }
        if heard.missing != Missing::Nothing {
            count(&self.counters.gaps);
            self.plan_heal(log, heard.missing == Missing::Crossing);
        }
    }

    /// Heals a log in the background; if `wait`, after hints that cross had time to come.
    pub(super) fn plan_heal(self: &Arc<Self>, log: &Arc<Log>, wait: bool) {
        let Some(started) = self.started.get() else { return };
        if log.heal_planned.swap(true, Ordering::AcqRel) {
            return;
        }
        let (hub, log) = (Arc::clone(self), Arc::clone(log));
        started.runtime.spawn(async move {
            if wait {
                count(&hub.counters.reorder_waited);
                tokio::time::sleep(hub.options.reorder_wait).await;
            }
            if let Err(error) = hub.heal_as_planned(&log).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not heal a gap; the next head check will");
            }
        });
    }

    fn rooms_changed(&self, user: &(TenantId, UserId)) {
        if let Some(follower) = lock(&self.users).get(user) {
            follower.mailboxes.values().for_each(|mailbox| mailbox.rooms_changed());
        }
    }

    pub(super) fn bus_is_up(&self) -> bool {
        *self.bus.state().borrow() == State::Up
    }
}
