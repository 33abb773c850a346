//! Faults answered as the contract says: panics, and input that the gRPC library
//! refuses in words of its own.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::body::trailers;
use crate::step::{Next, Step};
use crate::{Reason, Refusal, violation};

/// The step that answers INTERNAL when a handler or a stream panics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchPanics;

impl Step for CatchPanics {
    async fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        let call = AssertUnwindSafe(next.call(request));
        match call.catch_unwind().await {
            Ok(response) => Ok(response?.map(|body| Body::new(Caught(Some(body))))),
            Err(_) => Ok(panicked().into_http()),
        }
    }
}

/// Says nothing of the cause. Where it happened was logged by the panic hook;
/// what it said may hold what users wrote.
fn panicked() -> Status {
    tracing::error!("a request panicked");
    Refusal::new(Reason::Internal, "internal error").into()
}

/// A body that ends with INTERNAL when it panics.
struct Caught(Option<Body>);

impl http_body::Body for Caught {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let poll = AssertUnwindSafe(|| Pin::new(body).poll_frame(context));
        std::panic::catch_unwind(poll).unwrap_or_else(|_| {
            self.0 = None;
            Poll::Ready(Some(Ok(trailers(&panicked()))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The step that turns what the gRPC library says of bad input into the reasons
/// of the suite: oversized requests (there OUT_OF_RANGE), and bytes that are no
/// request (there INTERNAL).
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadInput;

impl Step for BadInput {
    async fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        let response = next.call(request).await?;
        // Input is read before the answer begins: the status is in the headers.
        if !response.headers().contains_key("grpc-status") {
            return Ok(response);
        }
        let status = Status::from_header_map(response.headers());
        match status.as_ref().and_then(refusal) {
            Some(refusal) => Ok(Status::from(refusal).into_http()),
            None => Ok(response),
        }
    }
}

/// What the suite says instead of the library; `None` for a status of ours.
fn refusal(status: &Status) -> Option<Refusal> {
    if !status.details().is_empty() {
        return None;
    }
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.contains("message length too large") => {
            Some(Refusal::new(Reason::MessageTooLarge, "the request is too large"))
        }
        Code::Internal | Code::Unimplemented | Code::Unknown
            if message.starts_with("failed to decode Protobuf message")
                || message.starts_with("protocol error: received message with")
                || message.starts_with("Missing request message") =>
        {
            Some(violation("request", "must be one encoded request of the method"))
        }
        _ => None,
    }
}
