//! How a call ends, for those who answer it and for those who make it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::Reason;

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) code: Code,
    pub(crate) reason: Option<Reason>,
}

impl End {
    /// Of a call whose client went away.
    pub(crate) const LEFT: Self = Self { code: Code::Cancelled, reason: None };

    /// What headers or trailers say of the end.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key("grpc-status") {
            return None;
        }
        let status = Status::from_header_map(headers)?;
        Some(Self::with(&status))
    }

    /// What a part of a body says of the end.
    fn within(part: &Result<Frame<Bytes>, Status>) -> Option<Self> {
        match part {
            Ok(frame) => frame.trailers_ref().and_then(Self::of),
            Err(status) => Some(Self::with(status)),
        }
    }

    fn with(status: &Status) -> Self {
        Self { code: status.code(), reason: Reason::of(status) }
    }
}

/// Who wants to know how a call ends.
pub(crate) trait Watch: Unpin {
    /// The answer says that it ends so.
    fn ends(&mut self, end: End);

    /// Goes on with the answer.
    fn within<T>(&self, go_on: impl FnOnce() -> T) -> T {
        go_on()
    }
}

/// The body of an answer, of which `by` is told how it ends. It is dropped with the body.
pub(crate) fn watched(body: Body, by: impl Watch + Send + 'static) -> Body {
    Body::new(Watched { body, by })
}

struct Watched<W> {
    body: Body,
    by: W,
}

impl<W: Watch> http_body::Body for Watched<W> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, by } = &mut *self;
        let frame = ready!(by.within(|| Pin::new(body).poll_frame(context)));
        if let Some(end) = frame.as_ref().and_then(End::within) {
            by.ends(end);
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
