//! Spans of calls to other services, on the side that calls.

use http::Request;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, TraceContextExt as _};
use parlance_telemetry::keys;
use parlance_telemetry::traces::{self, Span, SpanKind};
use tonic::body::Body;
use tonic::{Code, transport};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};

use crate::end::{End, Watch, watched};
use crate::trace::{hand_on, sampled};
use crate::{Transport, measure, reflection};

/// Has calls through a transport told to the collector, if somebody asked for traces: each below
/// the request that makes it, where that is sent. Outside of one nothing is told.
pub(crate) fn traced(transport: Transport) -> Transport {
    if !traces::is_on() {
        return transport;
    }
    BoxCloneSyncService::new(service_fn(move |mut request: Request<Body>| {
        let transport = transport.clone();
        async move {
            let Some(mut calling) = Calling::begin(&mut request) else {
                return transport.oneshot(request).await;
            };
            let response = transport.oneshot(request).await;
            let response = response.inspect_err(|_| calling.end = Some(AWAY))?;
            calling.end = End::of(response.headers());
            Ok::<_, transport::Error>(response.map(|body| watched(body, calling)))
        }
    }))
}

/// The end of a call that reached nobody.
const AWAY: End = End { code: Code::Unavailable, reason: None };

/// A call that is not finished. Its span ends when it is dropped, so that a call which nobody
/// waits for any more ends, too.
struct Calling {
    span: Span,
    end: Option<End>,
}

impl Calling {
    fn begin(request: &mut Request<Body>) -> Option<Self> {
        let parent = opentelemetry::Context::new().with_remote_span_context(sampled()?);
        let method = reflection::method(request.uri().path());
        let method = method.map_or(measure::OTHER, |(path, _)| path.trim_start_matches('/'));
        let attributes =
            vec![KeyValue::new(keys::RPC_SYSTEM, "grpc"), KeyValue::new(keys::RPC_METHOD, method)];
        let span = traces::span(method, SpanKind::Client, &parent, attributes)?;
        hand_on(request.headers_mut(), span.span_context().clone());
        Some(Self { span, end: None })
    }
}

impl Watch for Calling {
    fn ends(&mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let End { code, reason } = self.end.unwrap_or(End::LEFT);
        // Whoever calls takes each refusal for an error.
        let status =
            if code == Code::Ok { traces::Status::Unset } else { traces::Status::error("") };
        measure::trace_end(&mut self.span, status, code, reason);
    }
}
