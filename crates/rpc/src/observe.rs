//! One log line for each finished request, with its ids; never a word of what was
//! said, never a token.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::{Instrument, Span};

use crate::auth::is_open;
use crate::step::{Next, Step};
use crate::trace::{CURRENT, REQUEST_ID, Seen, Trace};
use crate::{Principal, Reason};

/// The step that names, counts and logs every request.
///
/// Takes over `x-request-id` and `traceparent` or makes them, and answers with
/// the `x-request-id`. A request counts as finished when its last byte was taken,
/// or when its client went away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observe {
    in_flight: TaskTracker,
}

impl Observe {
    /// Counts requests in `in_flight` until they are finished.
    pub(crate) fn new(in_flight: TaskTracker) -> Self {
        Self { in_flight }
    }
}

impl Step for Observe {
    async fn run<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        let trace = Trace::of(request.headers());
        let seen = Arc::new(Seen::default());
        request.extensions_mut().insert(Arc::clone(&seen));
        let method = request.uri().path().to_owned();
        let request_id = trace.request_id.to_str().unwrap_or_default();
        let trace_id = trace.span.trace_id();
        // Of the highest level, so that no filter takes the ids from the lines inside.
        let span = tracing::error_span!("rpc", method, request_id, %trace_id);
        let in_flight = (!is_open(&method)).then(|| self.in_flight.token());
        let mut record = Record { seen, span, began: Instant::now(), end: None, in_flight };

        let call = CURRENT.scope(trace.clone(), async move { next.call(request).await });
        let mut response = call.instrument(record.span.clone()).await?;
        response.headers_mut().insert(REQUEST_ID, trace.request_id);
        record.end = End::of(response.headers());
        Ok(response.map(|body| Body::new(Recorded { body, record })))
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
struct End {
    code: Code,
    reason: Option<Reason>,
}

impl End {
    /// What headers or trailers say of the end.
    fn of(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key("grpc-status") {
            return None;
        }
        let status = Status::from_header_map(headers)?;
        Some(Self { code: status.code(), reason: Reason::of(&status) })
    }
}

/// Logs the request when it is dropped, so that one whose client went away is
/// logged as well.
struct Record {
    seen: Arc<Seen>,
    span: Span,
    began: Instant,
    end: Option<End>,
    in_flight: Option<TaskTrackerToken>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let _in_span = self.span.enter();
        let End { code, reason } = self.end.unwrap_or(End { code: Code::Cancelled, reason: None });
        let reason = reason.map(Reason::as_str);
        let duration = self.began.elapsed();
        let caller = self.seen.0.get();
        let tenant = caller.map(|caller| caller.tenant_id.as_str());
        let kind = caller.map(|caller| kind(&caller.principal));
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(?code, reason, tenant, caller = kind, ?duration, "finished")
            };
        }
        let quiet = self.in_flight.is_none() || kind == Some("internal");
        match code {
            Code::Internal | Code::Unknown | Code::DataLoss => line!(error),
            _ if quiet => line!(debug),
            Code::Unavailable | Code::DeadlineExceeded => line!(warn),
            _ => line!(info),
        }
    }
}

fn kind(principal: &Principal) -> &'static str {
    match principal {
        Principal::User(_) => "user",
        Principal::ServiceFor(_) => "service-for-user",
        Principal::Service => "service",
        Principal::Operator => "operator",
        Principal::Internal(_) => "internal",
    }
}

/// A response body that tells its record how it ended.
struct Recorded {
    body: Body,
    record: Record,
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, record } = &mut *self;
        let Record { span, end, .. } = record;
        let _in_span = span.enter();
        let frame = ready!(Pin::new(body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => *end = frame.trailers_ref().and_then(End::of).or(*end),
            Some(Err(status)) => {
                *end = Some(End { code: status.code(), reason: Reason::of(status) });
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
