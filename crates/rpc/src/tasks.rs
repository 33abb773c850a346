//! Tasks beside the requests: relays, janitors, listeners.
//!
//! Nothing works for long without them, so one that panics, or ends before it is asked
//! to, ends the process: half a service would refuse a part of its rooms for ever, and
//! look alive. Whatever was promised is in the database.

use std::collections::BTreeMap;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use parlance_proto::message::v1::TaskCounters;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a process that lost a task may take to end by itself, before it is ended.
const LAST: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// The task that runs, for what it logs.
    pub(crate) static NAME: &'static str;
}

/// The tasks of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How long the process may take to end by itself once it lost a task.
    last: Duration,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Cancelled when a task has failed.
    broken: CancellationToken,
    /// Cancelled when everything has ended.
    closed: CancellationToken,
    broken_by: OnceLock<&'static str>,
    runs: Mutex<BTreeMap<&'static str, Run>>,
}

/// How a task is doing.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// How often it was run to its end.
    pub count: u64,
    /// How often a run failed.
    pub failures: u64,
    /// When the last run ended.
    pub last: Option<Instant>,
    /// When a run last failed, and of what.
    pub last_failure: Option<(Instant, String)>,
    /// Whether the last run failed.
    fails: bool,
}

impl Tasks {
    /// Cancelled when the tasks shall end.
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Runs a task that ends by itself once the tasks shall [`stop`](Self::stop).
    pub fn vital(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.runs().entry(name).or_default();
        let inner = Arc::clone(&self.0);
        let watched = async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            match ended {
                Ok(()) if inner.stop.is_cancelled() => {}
                Ok(()) => inner.fail(name, "ended by itself"),
                Err(_) => inner.fail(name, "panicked"),
            }
        };
        self.0.tracker.spawn(NAME.scope(name, watched));
    }

    /// Runs a task that never ends; it is dropped where it stands once the tasks shall stop.
    pub fn until_stop(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        self.vital(name, async move {
            stop.run_until_cancelled_owned(task).await;
        });
    }

    /// Runs `job` at once, then every `period` and when it is woken; never twice at once. A
    /// run that fails is logged if the one before it did not, and the next one comes as usual;
    /// when the tasks shall stop, a run is dropped where it stands.
    pub fn every<W, E>(
        &self,
        name: &'static str,
        period: Duration,
        wake: Arc<Notify>,
        mut job: impl FnMut() -> W + Send + 'static,
    ) where
        W: Future<Output = Result<(), E>> + Send,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let tasks = self.clone();
        let runs = async move {
            loop {
                let due = Instant::now() + period;
                tasks.ran(name, job().await);
                tokio::select! {
                    () = wake.notified() => {}
                    () = sleep_until(due) => {}
                }
            }
        };
        self.until_stop(name, runs);
    }

    /// Notes that a round of a task has ended, of one that goes its rounds by itself.
    pub fn ran<E>(&self, name: &'static str, ended: Result<(), E>)
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let failure = ended.map_err(Into::into).err();
        self.0.ran(name, failure.as_deref());
    }

    /// Work on a request that [`close`](Self::close) waits for.
    pub fn track<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        self.0.tracker.track_future(work)
    }

    /// Every task, by its name.
    pub fn report(&self) -> BTreeMap<&'static str, Run> {
        self.0.runs().clone()
    }

    /// Every task, as operators see it.
    pub fn counters(&self) -> Vec<TaskCounters> {
        let now = Instant::now();
        let since = |time| now.saturating_duration_since(time).try_into().ok();
        let counters = |(name, run): (&'static str, Run)| {
            let (failed, why) = run.last_failure.unzip();
            TaskCounters {
                name: name.to_owned(),
                runs: run.count,
                failures: run.failures,
                since_last_run: run.last.and_then(since),
                since_last_failure: failed.and_then(since),
                last_failure: why.unwrap_or_default(),
            }
        };
        self.report().into_iter().map(counters).collect()
    }

    /// Waits until a task has failed; the process shall end then.
    pub async fn broken(&self) {
        self.0.broken.cancelled().await;
    }

    /// The first task that has failed.
    pub fn broken_by(&self) -> Option<&'static str> {
        self.0.broken_by.get().copied()
    }

    /// Stops all tasks, and waits for them and for the work that is tracked.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
        self.0.closed.cancel();
    }
}

impl Default for Inner {
    fn default() -> Self {
        let token = CancellationToken::new;
        let (tracker, runs) = (TaskTracker::new(), Mutex::default());
        let broken_by = OnceLock::new();
        Self {
            last: LAST,
            tracker,
            stop: token(),
            broken: token(),
            closed: token(),
            broken_by,
            runs,
        }
    }
}

impl Inner {
    fn runs(&self) -> MutexGuard<'_, BTreeMap<&'static str, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ran(&self, name: &'static str, failure: Option<&(dyn Error + Send + Sync + 'static)>) {
        let mut runs = self.runs();
        let run = runs.entry(name).or_default();
        let now = Instant::now();
        let failed = std::mem::replace(&mut run.fails, failure.is_some());
        run.count += 1;
        run.last = Some(now);
        if let Some(failure) = failure {
            run.failures += 1;
            run.last_failure = Some((now, failure.to_string()));
        }
        drop(runs);
        match failure {
            Some(error) if !failed => {
                tracing::warn!(name, error = error as &(dyn Error + 'static), "a task fails");
            }
            None if failed => tracing::info!(name, "a task does not fail any more"),
            _ => {}
        }
    }

    fn fail(self: Arc<Self>, name: &'static str, how: &str) {
        tracing::error!(name, "a task that nothing works without {how}: the process ends");
        self.runs().entry(name).or_default().last_failure = Some((Instant::now(), how.to_owned()));
        let _first = self.broken_by.set(name);
        self.broken.cancel();
        // Also where nobody waits for it, and where the runtime itself stands still.
        std::thread::spawn(move || {
            std::thread::sleep(self.last);
            if !self.closed.is_cancelled() {
                std::process::abort();
            }
        });
    }
}

#[cfg(test)]
mod tests;
