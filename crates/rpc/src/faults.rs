//! Panics, answered as the contract says.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::body::trailers;
use crate::step::{Next, Step};
use crate::{Reason, Refusal};

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
