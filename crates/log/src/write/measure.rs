//! What is measured of appends.

use std::sync::LazyLock;
use std::time::Instant;

use parlance_telemetry::metrics::{self, Histogram, Metric, SECONDS, SIZES, number};
use parlance_telemetry::traces::{self, Span};

use super::queue::{Job, Send};

const BATCH: Metric = Metric {
    name: "parlance.append.batch.size",
    unit: "{message}",
    what: "Transactions that append messages, by how many they take together",
};
const WAIT: Metric = Metric {
    name: "parlance.append.wait",
    unit: "s",
    what: "Messages, by how long they waited until a writer began to append them; of one whose \
           append is tried again, each time",
};
const COMMIT: Metric = Metric {
    name: "parlance.append.commit.duration",
    unit: "s",
    what: "Transactions that append messages, by how long the database took for them, those that \
           failed too",
};

static APPENDS: LazyLock<Option<Appends>> = LazyLock::new(|| {
    Some(Appends {
        batch: metrics::histogram(&BATCH, SIZES)?,
        wait: metrics::histogram(&WAIT, SECONDS)?,
        commit: metrics::histogram(&COMMIT, SECONDS)?,
    })
});

struct Appends {
    batch: Histogram<f64>,
    wait: Histogram<f64>,
    commit: Histogram<f64>,
}

/// The present, if it is of interest.
pub(super) fn now() -> Option<Instant> {
    APPENDS.is_some().then(Instant::now)
}

/// The span of a transaction for `sends`, which ends when it is dropped.
pub(super) fn span(sends: &[Job<Send>]) -> Option<Span> {
    traces::shared("append", sends.iter().filter_map(|send| send.task.traced.clone()))
}

/// A transaction for `sends` that began at `since` has ended.
pub(super) fn appended(sends: &[Job<Send>], since: Option<Instant>) {
    let (Some(appends), Some(since)) = (&*APPENDS, since) else { return };
    appends.batch.record(number(sends.len() as u64), &[]);
    appends.commit.record(since.elapsed().as_secs_f64(), &[]);
    for queued in sends.iter().filter_map(|send| send.task.queued) {
        appends.wait.record(since.saturating_duration_since(queued).as_secs_f64(), &[]);
    }
}
