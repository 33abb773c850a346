//! Instruments, and the page that Prometheus reads.
//!
//! As long as nobody asked for metrics there is no instrument: whoever would record something
//! finds `None`, and what is only read now and then is never read.

use std::sync::OnceLock;

use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

pub use opentelemetry::KeyValue;
pub use opentelemetry::metrics::{Histogram, UpDownCounter};

use crate::Error;

/// What everything is recorded by, once it was asked for.
static METRICS: OnceLock<Metrics> = OnceLock::new();

/// Seconds, from what is answered from memory to what has waited for a deadline.
pub const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How many of something go together.
pub const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

#[derive(Debug)]
struct Metrics {
    provider: SdkMeterProvider,
    registry: Registry,
    meter: Meter,
}

/// A metric: its name, its unit, and what it means. docs/operations.md has a row for each.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub what: &'static str,
}

/// Takes the values of a metric down, when they are asked for.
pub type Take<'a, T> = &'a dyn AsyncInstrument<T>;

/// Has metrics recorded from now on, for the page, and for a collector if `push` says so.
pub(crate) fn start(resource: Resource, push: bool) -> Result<(), Error> {
    let registry = Registry::new();
    let page = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false);
    let mut provider =
        SdkMeterProvider::builder().with_resource(resource).with_reader(page.build()?);
    if push {
        let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic().build();
        provider = provider.with_periodic_exporter(exporter?);
    }
    let provider = provider.build();
    let meter = provider.meter("parlance");
    let metrics = Metrics { provider, registry, meter };
    METRICS.set(metrics).map_err(|_| Error::Begun)
}

/// Sends what is left, and records nothing any more. Blocks for as long as the collector does.
pub(crate) fn stop() {
    if let Some(metrics) = METRICS.get() {
        // Whoever collects may be away; nothing depends on it.
        let _unless_it_is_away = metrics.provider.shutdown();
    }
}

/// Whether anybody asked for metrics.
pub fn is_on() -> bool {
    METRICS.get().is_some()
}

/// Every metric with its present values, as Prometheus reads it. Takes the time of reading all
/// values.
pub fn page() -> String {
    let families = METRICS.get().map(|metrics| metrics.registry.gather()).unwrap_or_default();
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

/// How values of a metric are spread.
pub fn histogram(metric: &Metric, boundaries: &[f64]) -> Option<Histogram<f64>> {
    let builder = METRICS.get()?.meter.f64_histogram(metric.name);
    let builder = builder.with_unit(metric.unit).with_description(metric.what);
    Some(builder.with_boundaries(boundaries.to_vec()).build())
}

/// What goes up and down where it happens.
pub fn up_and_down(metric: &Metric) -> Option<UpDownCounter<i64>> {
    let builder = METRICS.get()?.meter.i64_up_down_counter(metric.name);
    Some(builder.with_unit(metric.unit).with_description(metric.what).build())
}

/// What only rises, and is counted elsewhere. Several may read one metric, each with attributes
/// of its own.
pub fn counter(metric: &Metric, read: impl Fn(Take<'_, u64>) + Send + Sync + 'static) {
    if let Some(Metrics { meter, .. }) = METRICS.get() {
        let builder = meter.u64_observable_counter(metric.name).with_unit(metric.unit);
        let _kept_by_the_meter = builder.with_description(metric.what).with_callback(read).build();
    }
}

/// What rises in fractions, likewise.
pub fn fractions(metric: &Metric, read: impl Fn(Take<'_, f64>) + Send + Sync + 'static) {
    if let Some(Metrics { meter, .. }) = METRICS.get() {
        let builder = meter.f64_observable_counter(metric.name).with_unit(metric.unit);
        let _kept_by_the_meter = builder.with_description(metric.what).with_callback(read).build();
    }
}

/// What is so much at present, likewise.
pub fn gauge(metric: &Metric, read: impl Fn(Take<'_, f64>) + Send + Sync + 'static) {
    if let Some(Metrics { meter, .. }) = METRICS.get() {
        let builder = meter.f64_observable_gauge(metric.name).with_unit(metric.unit);
        let _kept_by_the_meter = builder.with_description(metric.what).with_callback(read).build();
    }
}

/// A count as a measure: one above 2^53 loses its last digits.
#[expect(clippy::cast_precision_loss, reason = "a measure")]
pub const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Metric = Metric { name: "parlance.some", unit: "s", what: "Some" };
    const OF_TWO: Metric = Metric { name: "parlance.of_two", unit: "{thing}", what: "Of two" };

    /// The only test that begins to measure: it holds for the process.
    #[test]
    fn nothing_is_made_until_somebody_asks_and_then_the_page_has_it() {
        assert!(histogram(&SOME, SECONDS).is_none() && page().is_empty());
        counter(&OF_TWO, |_| panic!("nobody asks"));

        start(Resource::builder_empty().build(), false).expect("the first");
        assert!(matches!(start(Resource::builder_empty().build(), false), Err(Error::Begun)));
        histogram(&SOME, SECONDS).expect("it is on").record(0.5, &[]);
        for (service, count) in [("room", 3), ("message", 4)] {
            let of = [KeyValue::new(crate::keys::SERVICE, service)];
            counter(&OF_TWO, move |take| take.observe(count, &of));
        }
        let page = page();
        for line in [
            "# TYPE parlance_some_seconds histogram",
            "parlance_some_seconds_bucket{le=\"0.5\"} 1",
            "# TYPE parlance_of_two_total counter",
            "parlance_of_two_total{parlance_service=\"room\"} 3",
            "parlance_of_two_total{parlance_service=\"message\"} 4",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}: {page}");
        }
    }
}
