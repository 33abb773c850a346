//! Finishing what no request could finish.

use std::collections::HashMap;
use std::time::Duration;

use parlance_db::StoreError;
use parlance_rpc::Tasks;
use parlance_types::LogId;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::drive::count;
use crate::{Outbox, store};

/// How often the relay looks for pending facts without being told, and at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const SHORTEST_LOOK: Duration = Duration::from_millis(20);

/// When to look again after a look that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// How long one drive may take.
const DRIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Drives at once.
const DRIVES: usize = 32;

/// Logs that one query finds.
const PAGE: i64 = 500;

/// A log that fails is left alone for this long, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often in a row a log failed, and when to try again.
struct Trouble {
    failures: u32,
    until: Instant,
}

/// What the relay knows between looks.
#[derive(Default)]
struct Progress {
    driving: HashMap<Id, LogId>,
    trouble: HashMap<LogId, Trouble>,
}

impl Progress {
    fn is_due(&self, log_id: LogId) -> bool {
        let paused = self.trouble.get(&log_id).is_some_and(|log| log.until > Instant::now());
        !paused && !self.driving.values().any(|driven| *driven == log_id)
    }

    /// A drive ended; one that panicked did not end well.
    fn finished(&mut self, ended: Result<(Id, bool), JoinError>) {
        let (task, well) = ended.unwrap_or_else(|error| (error.id(), false));
        let Some(log_id) = self.driving.remove(&task) else { return };
        let failures = self.trouble.remove(&log_id).map_or(0, |log| log.failures);
        let now = Instant::now();
        // Forget logs that somebody else has driven since.
        self.trouble.retain(|_, log| log.until + LONGEST_PAUSE > now);
        if !well {
            let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
            let trouble = Trouble { failures: failures + 1, until: now + pause };
            self.trouble.insert(log_id, trouble);
        }
    }
}

impl Outbox {
    /// Drives every log with pending facts from now on, as one of the `tasks`: when a drive
    /// of this node failed, and every second. A log in trouble pauses, longer each time, and
    /// does not delay the others. Any number of replicas may run it.
    pub fn relay(&self, name: &'static str, tasks: &Tasks) {
        let (outbox, looks) = (self.clone(), tasks.clone());
        tasks.until_stop(name, async move { outbox.relay_all(name, looks).await });
    }

    async fn relay_all(&self, name: &'static str, tasks: Tasks) {
        let mut progress = Progress::default();
        let mut drives: JoinSet<bool> = JoinSet::new();
        let (mut next_look, mut crowded) = (Instant::now(), false);
        loop {
            let soon = Instant::now() + SHORTEST_LOOK;
            tokio::select! {
                Some(ended) = drives.join_next_with_id() => {
                    progress.finished(ended);
                    if crowded {
                        next_look = next_look.min(soon);
                    }
                }
                // Many may fail at once: one look serves them all.
                () = self.failed.notified() => next_look = next_look.min(soon),
                () = sleep_until(next_look) => {
                    let look = self.start_due(&mut progress, &mut drives).await;
                    next_look = Instant::now() + if look.is_ok() { LOOK_EVERY } else { AFTER_FAILURE };
                    crowded = *look.as_ref().unwrap_or(&false);
                    tasks.ran(name, look.map(drop));
                }
            }
        }
    }

    /// Starts a drive of each log that is pending and due, as long as there are
    /// places; whether some wait for a place.
    async fn start_due(
        &self,
        progress: &mut Progress,
        drives: &mut JoinSet<bool>,
    ) -> Result<bool, StoreError> {
        let mut after = LogId(Uuid::nil());
        loop {
            let found = store::pending(&self.db, after, PAGE).await?;
            let Some(last) = found.last() else { return Ok(false) };
            after = *last;
            for log_id in found {
                if !progress.is_due(log_id) {
                    continue;
                }
                if drives.len() == DRIVES {
                    return Ok(true);
                }
                let outbox = self.clone();
                let drive = drives.spawn(async move { outbox.relay_one(log_id).await });
                progress.driving.insert(drive.id(), log_id);
            }
        }
    }

    async fn relay_one(&self, log_id: LogId) -> bool {
        match self.try_drive(log_id, DRIVE_TIMEOUT).await {
            Ok(driven) => {
                // Otherwise a request had brought them home meanwhile.
                if driven.head > 0 {
                    count(&self.counters.relayed);
                }
                true
            }
            Err(error) => {
                tracing::warn!(%log_id, error = &error as &dyn std::error::Error, "facts wait");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_log_whose_drive_panicked_is_driven_again_after_a_pause() {
        let (log_id, mut progress) = (LogId(Uuid::nil()), Progress::default());
        let mut drives: JoinSet<bool> = JoinSet::new();
        let drive = drives.spawn(async { panic!("a bug") });
        progress.driving.insert(drive.id(), log_id);
        assert!(!progress.is_due(log_id));
        progress.finished(drives.join_next_with_id().await.expect("a drive"));
        assert!(!progress.is_due(log_id));
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(progress.is_due(log_id));
    }
}
