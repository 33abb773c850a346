//! One log line for each finished request, with its ids; never a word of what was
//! said, never a token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use parlance_telemetry::traces;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Code;
use tonic::body::Body;

use crate::auth::is_open;
use crate::end::{End, Watch, watched};
use crate::measure;
use crate::reflection;
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
    strangers: Arc<Strangers>,
}

impl Observe {
    /// Counts requests in `in_flight` until they are finished.
    pub(crate) fn new(in_flight: TaskTracker) -> Self {
        Self { in_flight, strangers: Arc::default() }
    }
}

impl Step for Observe {
    async fn run<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        let seen = Arc::new(Seen::default());
        request.extensions_mut().insert(Arc::clone(&seen));
        let path = request.uri().path();
        // Not what anybody may write into it.
        let method = reflection::method(path).map_or(measure::OTHER, |(path, _)| path);
        let (trace, traced) = Trace::of(request.headers(), method);
        let request_id = trace.request_id.clone();
        let in_flight = (!is_open(path)).then(|| self.in_flight.token());
        let strangers = Arc::clone(&self.strangers);
        measure::began(method);
        let began = Instant::now();
        let end = None;
        let of = Arc::clone(&trace);
        let mut record = Record { trace, seen, traced, began, end, in_flight, strangers };

        let mut response = CURRENT.scope(of, async move { next.call(request).await }).await?;
        response.headers_mut().insert(REQUEST_ID, request_id);
        record.end = End::of(response.headers());
        Ok(response.map(|body| watched(body, record)))
    }
}

/// Lines on calls without a good token: so many a second, the rest is counted. Whoever may
/// reach the server shall not fill its log.
#[derive(Debug, Default)]
struct Strangers(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    told: u32,
    left_out: u64,
}

impl Strangers {
    const A_SECOND: u32 = 10;

    /// Whether to tell of one more, and of how many nothing was told before.
    fn tell(&self) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.since.is_none_or(|since| since.elapsed() >= Duration::from_secs(1)) {
            (lines.since, lines.told) = (Some(Instant::now()), 0);
        }
        if lines.told == Self::A_SECOND {
            lines.left_out += 1;
            return None;
        }
        lines.told += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

/// Logs the request when it is dropped, so that one whose client went away is
/// logged as well.
struct Record {
    trace: Arc<Trace>,
    seen: Arc<Seen>,
    /// What a collector is told of the request.
    traced: Option<traces::Span>,
    began: Instant,
    end: Option<End>,
    in_flight: Option<TaskTrackerToken>,
    strangers: Arc<Strangers>,
}

impl Watch for Record {
    fn ends(&mut self, end: End) {
        self.end = Some(end);
    }

    fn within<T>(&self, go_on: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::clone(&self.trace), go_on)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        CURRENT.sync_scope(Arc::clone(&self.trace), || self.tell());
    }
}

impl Record {
    fn tell(&mut self) {
        let End { code, reason } = self.end.unwrap_or(End::LEFT);
        let duration = self.began.elapsed();
        measure::ended(self.trace.method, code, reason, duration);
        if let Some(traced) = &mut self.traced {
            measure::trace_end(traced, measure::answered(code), code, reason);
        }
        let reason = reason.map(Reason::as_str);
        let caller = self.seen.0.get();
        let tenant = caller.map(|caller| caller.tenant_id.as_str());
        let kind = caller.map(|caller| kind(&caller.principal));
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(?code, reason, tenant, caller = kind, ?duration, "finished")
            };
        }
        let quiet = self.in_flight.is_none() || kind == Some("internal");
        if caller.is_none() && !quiet {
            match self.strangers.tell() {
                Some(0) => {}
                Some(more) => tracing::info!(more, "calls without a good token were not logged"),
                None => return line!(debug),
            }
        }
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
