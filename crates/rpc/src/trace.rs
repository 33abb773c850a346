//! Request ids and W3C trace context: taken over or made here, and handed on to
//! the calls that a request makes.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue, global};
use parlance_telemetry::Within;
use parlance_telemetry::keys;
use parlance_telemetry::traces::{self, Span, SpanKind};
use parlance_types::Whose;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::{Caller, tasks};

/// The header and metadata key of request ids.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over.
const MAX_REQUEST_ID: usize = 128;

tokio::task_local! {
    /// The request that the present task handles.
    pub(crate) static CURRENT: Arc<Trace>;
}

/// What names a request in the logs.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The path of the method, or what work goes on that a request left behind.
    pub(crate) method: &'static str,
    pub(crate) request_id: HeaderValue,
    pub(crate) span: SpanContext,
}

/// Who turned out to be calling; filled by the auth step, read by the log.
#[derive(Debug, Default)]
pub(crate) struct Seen(pub(crate) OnceLock<Caller>);

impl Trace {
    /// Takes over what the headers name; makes what they do not. The span of the request goes with
    /// it, if anybody asked for spans.
    pub(crate) fn of(headers: &HeaderMap, method: &'static str) -> (Arc<Self>, Option<Span>) {
        let (request_id, (span, traced)) = (request_id(headers), Self::span(headers, method));
        (Arc::new(Self { method, request_id, span }), traced)
    }

    /// Where the request stands in its trace, and the span that a collector is told.
    fn span(headers: &HeaderMap, method: &'static str) -> (SpanContext, Option<Span>) {
        let parent = global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), &Headers(headers))
        });
        if traces::is_on() {
            let method = method.trim_start_matches('/');
            let attributes = vec![
                KeyValue::new(keys::RPC_SYSTEM, "grpc"),
                KeyValue::new(keys::RPC_METHOD, method),
            ];
            if let Some(span) = traces::span(method, SpanKind::Server, &parent, attributes) {
                return (span.span_context().clone(), Some(span));
            }
        }
        let parent = parent.span().span_context().clone();
        let (trace_id, flags, state) = if parent.is_valid() {
            (parent.trace_id(), parent.trace_flags(), parent.trace_state().clone())
        } else {
            (TraceId::from(rand::random::<u128>()), TraceFlags::default(), TraceState::default())
        };
        let span =
            SpanContext::new(trace_id, SpanId::from(rand::random::<u64>()), flags, false, state);
        (span, None)
    }
}

/// Tells the log what the present work belongs to.
pub fn within(tell: &mut dyn FnMut(Within<'_>)) {
    let _unless_it_is_no_task = tasks::NAME.try_with(|name| tell(Within::Task(name)));
    let _unless_it_is_no_request = CURRENT.try_with(|trace| {
        let (method, trace_id) = (trace.method, trace.span.trace_id());
        let request_id = trace.request_id.to_str().unwrap_or_default();
        tell(Within::Request { method, request_id, trace_id });
    });
}

/// The span of the request that the present task handles, if it is sent to somebody.
pub fn sampled() -> Option<SpanContext> {
    if !traces::is_on() {
        return None;
    }
    CURRENT.try_with(|trace| trace.span.is_sampled().then(|| trace.span.clone())).ok().flatten()
}

/// The same as text, for work that is done later; empty if it is sent to nobody.
pub fn trace_parent() -> String {
    let Some(span) = sampled() else { return String::new() };
    let mut headers = HeaderMap::new();
    hand_on(&mut headers, span);
    let parent = headers.get("traceparent").and_then(|parent| parent.to_str().ok());
    parent.unwrap_or_default().to_owned()
}

/// Does work that a request left behind, whose [`trace_parent`] was kept: its calls belong to the
/// trace of that request, below a span of their own. Within a request work belongs to that one.
pub async fn resumed<W: Future>(name: &'static str, parent: &str, work: W) -> W::Output {
    let later = traces::is_on() && !parent.is_empty() && CURRENT.try_with(|_| ()).is_err();
    let parent = HeaderValue::from_str(parent).ok().filter(|_| later);
    let Some(parent) = parent else { return work.await };
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", parent);
    let parent = global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &Headers(&headers))
    });
    let Some(span) = traces::span(name, SpanKind::Internal, &parent, Vec::new()) else {
        return work.await;
    };
    let (request_id, context) = (request_id(&headers), span.span_context().clone());
    let trace = Trace { method: name, request_id, span: context };
    // The span ends with the work, or with whoever drops it.
    let done = CURRENT.scope(Arc::new(trace), work).await;
    drop(span);
    done
}

/// The client's request id if it is short and printable, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(&REQUEST_ID).filter(|id| {
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let id = Uuid::new_v4().simple().to_string();
        HeaderValue::try_from(id).expect("hexadecimal digits")
    })
}

/// Lets `work`, run in a task of its own, belong to the request that the present
/// task handles: its log lines and its calls carry the ids of the request, and it is the same
/// caller's.
pub fn carry<W: Future>(work: W) -> impl Future<Output = W::Output> {
    let (trace, whose) = (CURRENT.try_with(Arc::clone).ok(), Whose::of_task());
    async move {
        // Outside of a request there is nothing to carry.
        match (trace, whose) {
            (Some(trace), Some(whose)) => CURRENT.scope(trace, whose.does(work)).await,
            (Some(trace), None) => CURRENT.scope(trace, work).await,
            (None, _) => work.await,
        }
    }
}

/// Puts the request that the present task handles into an outgoing one.
pub(crate) fn inject(metadata: &mut MetadataMap) {
    let injected = CURRENT.try_with(|trace| {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, trace.request_id.clone());
        hand_on(&mut headers, trace.span.clone());
        headers
    });
    // Outside of a request, as in a relay, there is nothing to hand on.
    if let Ok(headers) = injected {
        metadata.as_mut().extend(headers);
    }
}

/// Has the one who gets these headers go on with the trace below a span.
pub(crate) fn hand_on(headers: &mut HeaderMap, span: SpanContext) {
    let context = Context::new().with_remote_span_context(span);
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Outgoing(headers));
    });
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}
