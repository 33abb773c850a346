//! How a node finds what no hint brought: it looks at the heads of the logs that it follows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parlance_bus::State;
use parlance_log::{EpochId, Head};
use parlance_types::{LogId, Seq, TenantId, UserId};
use tokio::sync::watch;

use super::{Inner, Log, count};
use crate::failure::Unavailable;
use crate::lock;
use crate::log::Missing;

/// Heads that one query asks for.
const HEADS: usize = 500;

/// How many times longer than asked for the time between two checks may become.
const STRETCH: u32 = 5;

/// A log and its position before its head was looked at.
type Known = (Arc<Log>, EpochId, Seq);

/// Waits until the bus comes or goes.
async fn turned(bus: &mut watch::Receiver<State>) {
    if bus.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Inner {
    /// Looks at heads, every now and then and whenever something is suspect; often
    /// while the bus is away.
    pub(super) async fn check(self: Arc<Self>) {
        let mut bus = self.bus.state();
        loop {
            let away = *bus.borrow_and_update() == State::Down;
            let began = tokio::time::Instant::now();
            let checked = match self.check_heads(self.known_logs()).await {
                Ok(()) => self.check_users().await,
                failed => failed,
            };
            if let Err(error) = &checked {
                tracing::warn!(error = error as &dyn std::error::Error, "could not check heads");
            }
            self.sweep();
            self.give_up_stalled();
            let mut wait = self.options.head_check;
            if away {
                count(&self.counters.polled);
                wait = wait.min(self.options.poll);
            }
            let pause = pause(wait, self.options.retry, checked.is_ok(), began.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Suspicions that come together are checked together.
                () = self.check_now.notified() => tokio::time::sleep(self.options.reorder_wait).await,
                () = turned(&mut bus) => {}
            }
        }
    }

    fn known_logs(&self) -> Vec<Known> {
        let known = |log: Arc<Log>| {
            let (epoch, head) = lock(&log.state).position().map(|(e, head)| (e.clone(), head))?;
            Some((log, epoch, head))
        };
        self.logs_in_use().into_iter().filter_map(known).collect()
    }

    /// Asks the database about one log that is suspect.
    pub(super) async fn check_log(self: &Arc<Self>, log: &Arc<Log>) -> Result<(), Unavailable> {
        let known = lock(&log.state).position().map(|(epoch, head)| (epoch.clone(), head));
        match known {
            Some((epoch, head)) => self.check_heads(vec![(Arc::clone(log), epoch, head)]).await,
            None => Ok(()),
        }
    }

    async fn check_heads(self: &Arc<Self>, known: Vec<Known>) -> Result<(), Unavailable> {
        for known in known.chunks(HEADS) {
            let ids: Vec<LogId> = known.iter().map(|(log, ..)| log.place.log_id).collect();
            let heads = self.ask(self.store()?.heads(&ids)).await?;
            let heads: HashMap<LogId, Head> =
                heads.into_iter().map(|head| (head.log_id, head)).collect();
            for (log, epoch, head) in known {
                self.compare(log, epoch, *head, heads.get(&log.place.log_id)).await?;
            }
        }
        Ok(())
    }

    async fn compare(
        self: &Arc<Self>,
        log: &Arc<Log>,
        epoch: &EpochId,
        known: Seq,
        stored: Option<&Head>,
    ) -> Result<(), Unavailable> {
        match stored {
            Some(stored) if stored.epoch == *epoch && stored.head >= known => {
                if stored.first > known + 1 {
                    // What comes next is gone: streams go on behind it.
                    self.drop_ring(log, epoch);
                    return Ok(());
                }
                let mut state = lock(&log.state);
                if state.prune(stored.first) {
                    state.wake(|mailbox| mailbox.ready(log.place.log_id));
                }
                let missing = state.hear(epoch, [], stored.head).missing;
                drop(state);
                if missing != Missing::Nothing {
                    count(&self.counters.head_check_healed);
                    self.plan_heal(log, false);
                }
            }
            Some(stored) if stored.epoch == *epoch => {
                // Events that were known are gone: history was rewound, and nobody noticed.
                self.ask(self.store()?.rewound(epoch)).await?;
                self.drop_ring(log, epoch);
            }
            _ => self.drop_ring(log, epoch),
        }
        Ok(())
    }

    pub(super) fn drop_ring(&self, log: &Log, epoch: &EpochId) {
        let mut state = lock(&log.state);
        if state.position().is_some_and(|(running, _)| running == epoch) {
            count(&self.counters.rings_dropped);
            state.drop_ring();
            state.wake(|mailbox| mailbox.ready(log.place.log_id));
        }
    }

    async fn check_users(&self) -> Result<(), Unavailable> {
        let users: Vec<(TenantId, UserId)> = lock(&self.users).keys().cloned().collect();
        for users in users.chunks(HEADS) {
            let heads = self.ask(self.store()?.user_heads(users)).await?;
            for (user, head) in users.iter().zip(heads) {
                let mut followers = lock(&self.users);
                let Some(follower) = followers.get_mut(user) else { continue };
                if follower.seen == Some(head) {
                    continue;
                }
                if follower.seen.replace(head).is_some() {
                    count(&self.counters.users_healed);
                }
                follower.mailboxes.values().for_each(|mailbox| mailbox.rooms_changed());
            }
        }
        Ok(())
    }
}

/// How long to wait after a check of all heads that took `took`: longer when there is
/// much to look at, so that looking takes a tenth of the time, but never so long that a
/// lost hint is forgotten. A check that failed has found nothing, and is soon repeated.
fn pause(every: Duration, retry: Duration, done: bool, took: Duration) -> Duration {
    if done {
        every.max(took.saturating_mul(10)).min(every.saturating_mul(STRETCH))
    } else {
        retry.min(every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_checks_is_bounded_whatever_the_last_one_came_to() {
        let millis = Duration::from_millis;
        let (every, retry) = (millis(2000), millis(1000));
        for (done, took, expected) in [
            (true, 5, 2000),
            (true, 300, 3000),
            (true, 10_000, 10_000),
            (false, 5, 1000),
            (false, 10_000, 1000),
        ] {
            assert_eq!(pause(every, retry, done, millis(took)), millis(expected));
        }
    }
}
