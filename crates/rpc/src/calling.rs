//! Spans of calls to other services, on the side that calls.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, TraceContextExt as _};
use parlance_telemetry::keys;
use parlance_telemetry::traces::{self, Span, SpanKind};
use tonic::body::Body;
use tonic::{Code, Status, transport};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};

use crate::observe::End;
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
            Ok::<_, transport::Error>(response.map(|body| Body::new(Answer { body, calling })))
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

impl Drop for Calling {
    fn drop(&mut self) {
        let End { code, reason } = self.end.unwrap_or(End::LEFT);
        // Whoever calls takes each refusal for an error.
        let status =
            if code == Code::Ok { traces::Status::Unset } else { traces::Status::error("") };
        measure::trace_end(&mut self.span, status, code, reason);
    }
}

/// The body of an answer, which tells how the call ended.
struct Answer {
    body: Body,
    calling: Calling,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.calling.end = End::within(frame.as_ref()).or(self.calling.end);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
