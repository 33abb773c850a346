//! What is measured of streams.

use std::sync::LazyLock;

use parlance_telemetry::metrics::{self, Histogram, Metric, number};
use parlance_types::Seq;

const LAG: Metric = Metric {
    name: "parlance.follow.lag",
    unit: "{event}",
    what: "Times that a stream was given events of a room, by how many of its events it lacked: 1 \
           for one that is up to date",
};

/// One that is up to date, one that reads slowly, one that has fallen out of the ring, and one
/// that begins far behind.
const EVENTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 512.0, 1024.0, 4096.0, 16_384.0];

static DELIVERIES: LazyLock<Option<Histogram<f64>>> =
    LazyLock::new(|| metrics::histogram(&LAG, EVENTS));

/// A stream that lacked so many events of a room was given some of them.
pub(crate) fn delivered(behind: Seq) {
    if let Some(lag) = &*DELIVERIES {
        lag.record(number(behind.unsigned_abs()), &[]);
    }
}
