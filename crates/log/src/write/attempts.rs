//! The runs of one batch or change, until the database has answered.

use std::time::Duration;

use parlance_db::Trouble;
use tokio::time::{Instant, sleep};

use super::queue::Job;
use crate::Error;

/// How long a change that was never begun waits for a database that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(2);

/// The runs of one batch or change.
///
/// A run whose connection is lost may have been committed or not. It is run again: what
/// it finds stored under its request ids is its own.
///
/// ```text
/// run 1   BEGIN  insert  COMMIT ... connection lost     interrupted
/// run 2   connection refused                            pause 20 ms
/// run 3   BEGIN  finds it stored  COMMIT                answered, and published again
/// ```
pub(super) struct Attempts {
    began: Instant,
    pause: Duration,
    /// Whether a run was cut off, so that its commit is unknown.
    pub(super) interrupted: bool,
}

/// What shares a transaction, sorted by log: heads are locked in that order everywhere.
pub(super) struct Batch<T> {
    pub(super) jobs: Vec<Job<T>>,
    pub(super) attempts: Attempts,
}

impl<T> Batch<T> {
    /// `begun`: a run of it may have been committed.
    pub(super) fn new(jobs: Vec<Job<T>>, begun: bool) -> Self {
        let begun = begun || jobs.iter().any(|job| job.begun);
        Self { jobs, attempts: Attempts::new(begun) }
    }
}

impl Attempts {
    /// `interrupted`: what is run may have been committed before.
    pub(super) fn new(interrupted: bool) -> Self {
        Self { began: Instant::now(), pause: Duration::from_millis(20), interrupted }
    }

    /// Whether to run again. What may have been committed is run until it is known, as
    /// long as anybody wants to know.
    pub(super) fn go_on(&self, error: &Error, waits: impl Fn() -> bool) -> bool {
        let patient = self.interrupted || self.began.elapsed() < PATIENCE;
        let passing = match error {
            Error::Store(error) => {
                error.ends_connection() || matches!(error.trouble(), Trouble::Busy | Trouble::Stuck)
            }
            _ => false,
        };
        passing && patient && waits()
    }

    pub(super) async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(1));
    }
}

/// Whether it is not known what became of the run that failed so.
pub(super) fn lost(error: &Error) -> bool {
    matches!(error, Error::Store(error) if error.trouble() == Trouble::Lost)
}
