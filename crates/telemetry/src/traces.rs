//! Spans, and their way to a collector.
//!
//! As long as nobody asked for traces there is no span: whoever would begin one finds `None`. What
//! has ended waits in a queue of the library, 2,048 spans unless `OTEL_BSP_MAX_QUEUE_SIZE` says
//! otherwise, and is dropped where there is no place: a collector that is slow or away holds up
//! nobody.

use std::sync::OnceLock;

use opentelemetry::trace::{Link, Span as _, SpanBuilder, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceContextExt};
pub use opentelemetry_sdk::trace::Span;

use crate::Error;

/// Where spans go, once somebody asked for them.
static TRACES: OnceLock<Traces> = OnceLock::new();

#[derive(Debug)]
struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Sends spans to a collector from now on.
pub(crate) fn start(resource: Resource) -> Result<(), Error> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
    let provider =
        SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let tracer = provider.tracer("parlance");
    TRACES.set(Traces { provider, tracer }).map_err(|_| Error::Begun)
}

/// Sends what is left, and takes no span any more. Blocks for as long as the collector does.
pub(crate) fn stop() {
    if let Some(traces) = TRACES.get() {
        // Whoever collects may be away; nothing depends on it.
        let _unless_it_is_away = traces.provider.shutdown();
    }
}

/// Whether anybody asked for traces.
pub fn is_on() -> bool {
    TRACES.get().is_some()
}

/// Begins a span below `parent`, which ends when it is dropped.
pub fn span(
    name: &'static str,
    kind: SpanKind,
    parent: &Context,
    attributes: Vec<KeyValue>,
) -> Option<Span> {
    let span = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
    Some(TRACES.get()?.tracer.build_with_context(span, parent))
}

/// Begins a span of work that is done for several at once, in the trace of the first, with links
/// to all.
pub fn shared(name: &'static str, of: impl Iterator<Item = SpanContext>) -> Option<Span> {
    let traces = TRACES.get()?;
    let links: Vec<_> = of.map(Link::with_context).collect();
    let first = links.first()?.span_context.clone();
    let span = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_links(links);
    let parent = Context::new().with_remote_span_context(first);
    Some(traces.tracer.build_with_context(span, &parent))
}

/// Says of a span how it ended.
pub fn ended(span: &mut Span, status: Status, attributes: impl IntoIterator<Item = KeyValue>) {
    span.set_attributes(attributes);
    span.set_status(status);
    span.end();
}
