//! One step around every request: what each layer of the suite is.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt as _};

/// What a step goes on to: the next step, or the services.
pub trait Next: Send + Sync {
    type Error: Send;

    /// Handles a request.
    fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Self::Error>> + Send;
}

/// One step around every request. Works the same over the network and in process.
pub trait Step: Send + Sync + 'static {
    /// Handles a request, usually by calling `next` once.
    fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> impl Future<Output = Result<Response<Body>, N::Error>> + Send;
}

/// Makes a tower layer of a step.
#[derive(Clone, Debug)]
pub struct StepLayer<T>(pub T);

impl<T: Step + Clone, N> Layer<N> for StepLayer<T> {
    type Service = Stepped<T, N>;

    fn layer(&self, next: N) -> Stepped<T, N> {
        Stepped { step: self.0.clone(), next }
    }
}

/// A step, and what it goes on to.
#[derive(Debug)]
pub struct Stepped<T, N> {
    step: T,
    next: N,
}

impl<T: Step, N: Next> Next for Stepped<T, N> {
    type Error = N::Error;

    fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, N::Error>> + Send {
        self.step.run(request, &self.next)
    }
}

/// The services behind the last step, always ready.
#[derive(Clone, Debug)]
pub struct Last<S>(pub S);

impl<S> Next for Last<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send, Error: Send>
        + Clone
        + Send
        + Sync,
{
    type Error = S::Error;

    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, S::Error> {
        self.0.clone().oneshot(request).await
    }
}

/// All steps as one service: however many there are, a request costs one clone of
/// this and one future.
#[derive(Debug)]
pub struct Steps<N>(Arc<N>);

impl<N> Steps<N> {
    pub fn new(first: N) -> Self {
        Self(Arc::new(first))
    }
}

impl<N> Clone for Steps<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N: Next + 'static> Service<Request<Body>> for Steps<N> {
    type Response = Response<Body>;
    type Error = N::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, N::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), N::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let first = Arc::clone(&self.0);
        Box::pin(async move { first.call(request).await })
    }
}
