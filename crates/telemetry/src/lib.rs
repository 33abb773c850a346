//! Logs, metrics, and how traces travel.

mod export;
pub mod keys;
mod lines;
pub mod metrics;
mod repeats;
pub mod traces;
mod within;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

pub use export::WrongVariable;
pub use lines::{flush, last_line, lost, print};
pub use repeats::nothing_works;
pub use within::{Ask, Within};

use self::export::Export;
use self::within::Belonging;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// A text that names no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be text or json")]
pub struct InvalidFormat;

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(InvalidFormat),
        }
    }
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log filter is not valid")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logging was set up already")]
    Twice(#[from] TryInitError),
    #[error(transparent)]
    Variable(#[from] WrongVariable),
    #[error("cannot send telemetry to a collector")]
    Export(#[from] ExporterBuildError),
    #[error("cannot make the page of metrics")]
    Page(#[from] OTelSdkError),
    #[error("telemetry was begun already")]
    Begun,
}

/// Writes logs to standard error from now on, and hands W3C trace context from
/// call to call. `filter` is a level, or levels by module: `info,parlance_rpc=debug`.
///
/// A line never waits for who reads it, and never fails: what nobody takes is lost and
/// counted. Warnings and errors that say the same are written once in a while. `ask` tells what
/// a line belongs to.
pub fn init(format: Format, filter: &str, ask: Ask) -> Result<(), Error> {
    let filter = filter.parse::<Targets>()?;
    let lines = layer(format, std::io::stderr().is_terminal(), || &*lines::ERRORS, ask);
    tracing_subscriber::registry().with(lines).with(repeats::Repeats).with(filter).try_init()?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Measures and traces from now on, as far as anybody wants to know: a page of metrics if `page`
/// says so, and what the standard variables of the environment (`OTEL_...`) say. To be called in
/// a runtime, before anything is measured; without it nothing ever is.
pub fn start(program: &'static str, version: &'static str, page: bool) -> Result<(), Error> {
    let export = Export::of(|name| std::env::var_os(name))?;
    if page || export.metrics {
        metrics::start(resource(program, version), export.metrics)?;
    }
    if export.traces {
        traces::start(resource(program, version))?;
    }
    Ok(())
}

/// Sends what is left to the collector, and waits for it no longer than `within`.
pub async fn stop(within: Duration) {
    let (ended, end) = tokio::sync::oneshot::channel();
    // In a thread of its own, which nobody waits for: the library blocks while a collector does.
    let stop = move || {
        traces::stop();
        metrics::stop();
        let _unless_it_is_late = ended.send(());
    };
    if std::thread::Builder::new().name("telemetry".into()).spawn(stop).is_ok() {
        let _in_time = tokio::time::timeout(within, end).await;
    }
}

/// What a collector is told of this process; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win.
fn resource(program: &'static str, version: &'static str) -> Resource {
    let said = |name| std::env::var_os(name).is_some_and(|it| !it.is_empty());
    let mut resource = Resource::builder();
    if !said("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(program);
    }
    resource.with_attribute(KeyValue::new("service.version", version)).build()
}

/// Writes what is logged to `writer`, with what each line belongs to.
pub fn layer<S, W>(
    format: Format,
    colours: bool,
    writer: W,
    ask: Ask,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer);
    match format {
        Format::Text => {
            let lines = lines.with_ansi(colours).with_target(false);
            Box::new(lines.map_event_format(|line| Belonging {
                line: line.with_ansi(colours),
                format,
                ask,
            }))
        }
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false);
            Box::new(lines.map_event_format(|line| Belonging { line, format, ask }))
        }
    }
}

/// Logs where a panic happened. What it says is logged only when it is part of the
/// program: a text made while running may hold what users wrote.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let message = panic.payload().downcast_ref::<&'static str>();
    tracing::error!(location, message, "panic");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_text_or_json() {
        assert_eq!("text".parse(), Ok(Format::Text));
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("xml".parse::<Format>(), Err(InvalidFormat));
    }

    #[test]
    fn a_bad_filter_is_an_error_and_a_good_one_can_be_set_once() {
        assert!(matches!(init(Format::Text, "rpc=loud", |_| {}), Err(Error::Filter(_))));
        assert!(init(Format::Json, "off,parlance_rpc=debug", |_| {}).is_ok());
        assert!(matches!(init(Format::Text, "info", |_| {}), Err(Error::Twice(_))));
    }
}
