//! One step around every request: what each layer of the suite is.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

/// What a step goes on to: the next step, or the services.
pub trait Next:
    Service<Request<Body>, Response = Response<Body>, Future: Send, Error: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Next for S where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send, Error: Send>
        + Clone
        + Send
        + 'static
{
}

/// One step around every request. Works the same over the network and in process.
///
/// A step is cloned for each request, so what it shares is behind an `Arc`.
pub trait Step: Clone + Send + Sync + 'static {
    /// Handles a request, usually by calling `next` once.
    fn run<S: Next>(
        &self,
        request: Request<Body>,
        next: S,
    ) -> impl Future<Output = Result<Response<Body>, S::Error>> + Send;
}

/// Makes a tower layer of a step.
#[derive(Clone, Debug)]
pub struct StepLayer<T>(pub T);

impl<T: Step, S> Layer<S> for StepLayer<T> {
    type Service = Stepped<T, S>;

    fn layer(&self, next: S) -> Stepped<T, S> {
        Stepped { step: self.0.clone(), next }
    }
}

/// A service with a step around it.
#[derive(Clone, Debug)]
pub struct Stepped<T, S> {
    step: T,
    next: S,
}

impl<T: Step, S: Next> Service<Request<Body>> for Stepped<T, S> {
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.next.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let spare = self.next.clone();
        let next = std::mem::replace(&mut self.next, spare);
        let step = self.step.clone();
        Box::pin(async move { step.run(request, next).await })
    }
}
