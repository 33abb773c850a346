//! Deadlines: every unary call has one, a stream has one when its client asks.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;

use crate::auth::is_open;
use crate::body::trailers;
use crate::step::{Next, Step};
use crate::{Failure, Reason, Refusal, reflection, status, violation};

/// How long a unary call may take when its client does not say.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a stream that needs no token may live.
const OPEN_LIFE: Duration = Duration::from_mins(10);

/// The longest deadline that is kept; longer ones are lowered to it.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// When the answer to a request is due. Found in the extensions of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// The share of a request's time that [`Deadline::reserve`] keeps: one part in so many.
const RESERVE: u32 = 10;

/// The answer was not there in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed before the answer was there")]
pub struct Late;

impl Failure for Late {
    fn reason(&self) -> Reason {
        Reason::DeadlineExceeded
    }
}

impl Deadline {
    /// That of a request, or [`DEFAULT_DEADLINE`] from now where it has none.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let deadline = request.extensions().get().copied();
        deadline.unwrap_or_else(|| Self::within(DEFAULT_DEADLINE))
    }

    pub fn within(left: Duration) -> Self {
        Self(Instant::now() + left)
    }

    /// How long the answer may still take.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// A deadline a little earlier: the rest of the time is for telling the caller how it
    /// went. Of 10 s left it keeps one.
    #[must_use]
    pub fn reserve(self) -> Self {
        Self(self.0 - self.left() / RESERVE)
    }

    /// The earlier of this deadline and one that is `most` away.
    #[must_use]
    pub fn at_most(self, most: Duration) -> Self {
        Self(self.0.min(Instant::now() + most))
    }

    /// Waits for `work` no longer than this. What is late already is not begun.
    pub async fn bound<T, E: From<Late>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if self.left().is_zero() {
            return Err(Late.into());
        }
        timeout_at(self.0, work).await.unwrap_or_else(|_| Err(Late.into()))
    }
}

/// How long the answer to a request may still take.
pub fn remaining<T>(request: &tonic::Request<T>) -> Duration {
    Deadline::of(request).left()
}

/// The step that bounds every request.
///
/// Unary calls get what their `grpc-timeout` says, at most `max`, else `default`;
/// streams get only what their client asks for, once they have begun: whatever it asks
/// for, their request must be there and be answered within `default`, or it would hold its
/// place for as long as its client likes. A call that takes a stream and answers once has what
/// its client asks for, if it does: how long that may stay quiet its handler says. What needs no
/// token lives ten minutes. What is late is answered DEADLINE_EXCEEDED, a stream in its
/// trailers.
#[derive(Clone, Debug)]
pub struct Deadlines {
    pub(crate) default: Duration,
    max: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self::new(DEFAULT_DEADLINE, Duration::from_mins(1))
    }
}

impl Deadlines {
    /// Bounds unary calls by `default`, or by what the client asks up to `max`.
    pub fn new(default: Duration, max: Duration) -> Self {
        Self { default, max }
    }
}

impl Step for Deadlines {
    async fn run<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        let asked = match asked(request.headers()) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(Status::from(refusal).into_http()),
        };
        let now = Instant::now();
        let path = request.uri().path();
        let streams = reflection::streams(path);
        // What takes a stream is answered once that has ended.
        let waits = reflection::takes_stream(path) && !streams;
        let limit = if streams && is_open(path) {
            Some(asked.unwrap_or(OPEN_LIFE).min(OPEN_LIFE))
        } else if streams || waits {
            asked.map(|asked| asked.min(LONGEST))
        } else {
            Some(asked.unwrap_or(self.default).min(self.max))
        };
        let deadline = limit.map(|limit| Deadline(now + limit));
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let begins = match limit {
            limit if waits => limit.unwrap_or(LONGEST),
            Some(limit) if !streams => limit,
            limit => limit.unwrap_or(self.default).min(self.default),
        };
        let begun = timeout_at(now + begins, next.call(request)).await;
        let Ok(response) = begun else { return Ok(exceeded().into_http()) };
        Ok(match deadline {
            Some(deadline) => response?.map(|body| Body::new(Bounded::new(body, deadline))),
            None => response?,
        })
    }
}

fn exceeded() -> Status {
    status(&Late)
}

/// What the client asks for in `grpc-timeout`.
pub(crate) fn asked(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse);
    parsed.map(Some).ok_or_else(|| {
        violation("grpc-timeout", "must be 1 to 8 digits and a unit of H, M, S, m, u or n")
    })
}

/// Reads a `grpc-timeout`.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

pin_project! {
    /// A response body that ends with DEADLINE_EXCEEDED when it is due.
    struct Bounded {
        body: Option<Body>,
        #[pin]
        due: Sleep,
    }
}

impl Bounded {
    fn new(body: Body, deadline: Deadline) -> Self {
        Self { body: Some(body), due: sleep_until(deadline.0) }
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let Some(body) = this.body else { return Poll::Ready(None) };
        // Checked first, so that a body that is always ready is bounded as well.
        if this.due.deadline() > Instant::now() {
            if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
                return Poll::Ready(frame);
            }
            ready!(this.due.poll(context));
        }
        // Dropped at once, so that what feeds the stream stops.
        *this.body = None;
        Poll::Ready(Some(Ok(trailers(&exceeded()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // No exact length: the deadline may cut the body short.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests;
