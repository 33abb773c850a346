//! The gRPC services that a process serves, each with its limits.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures::future::Either;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

use crate::caller::of_suite;

/// Adds a server to the others.
type Add = Box<dyn FnOnce(Routes) -> Routes + Send + Sync>;

/// gRPC services, as `public!` and `internal!` collect them.
#[derive(Default)]
pub struct Served {
    names: Vec<&'static str>,
    routes: Vec<Add>,
}

/// Collects servers of users and backends: each takes requests up to `MAX_REQUEST`.
#[macro_export]
macro_rules! public {
    ($($server:expr),+ $(,)?) => {
        $crate::Served::default()
            $(.with($server.max_decoding_message_size($crate::MAX_REQUEST)))+
    };
}

/// Collects servers of the suite itself: each takes requests up to `MAX_INTERNAL`, of the
/// services of the suite only.
#[macro_export]
macro_rules! internal {
    ($($server:expr),+ $(,)?) => {
        $crate::Served::default()
            $(.with($crate::OfSuite($server.max_decoding_message_size($crate::MAX_INTERNAL))))+
    };
}

/// A server of the suite itself. It takes large requests, so others are refused before a
/// byte of theirs is read.
#[derive(Clone, Debug)]
pub struct OfSuite<S>(pub S);

impl<S: NamedService> NamedService for OfSuite<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>, Response = Response<Body>>> Service<Request<Body>> for OfSuite<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match of_suite(request.extensions()) {
            Ok(_) => Either::Left(self.0.call(request)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

impl Served {
    /// Adds a server whose limits are its own.
    #[must_use]
    pub fn with<S>(mut self, server: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.names.push(S::NAME);
        self.routes.push(Box::new(move |routes| routes.add_service(server)));
        self
    }

    /// Adds what another has.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.names.extend(other.names);
        self.routes.extend(other.routes);
        self
    }

    /// The full names of the services.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    pub fn into_routes(self) -> Routes {
        self.routes.into_iter().fold(Routes::default(), |routes, add| add(routes))
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Served").field(&self.names).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;
    use parlance_types::{TenantId, UserId};
    use tonic_health::pb::health_server::HealthServer;
    use tonic_health::server::{HealthReporter, HealthService};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{Caller, Principal, Reason};

    /// Calls a service of the suite with a request that shall not be read.
    async fn refused(caller: Option<Principal>) -> Reason {
        let health = HealthService::from_health_reporter(HealthReporter::new());
        let routes = crate::internal![HealthServer::new(health)].into_routes();
        let unread = stream::poll_fn(
            |_| -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>> {
                panic!("it is read")
            },
        );
        let mut request = Request::post("/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .body(Body::new(StreamBody::new(unread)))
            .expect("a request");
        if let Some(principal) = caller {
            let (tenant_id, subject) = (TenantId::new("acme"), "ann".to_owned());
            request.extensions_mut().insert(Caller {
                tenant_id,
                subject,
                principal,
                expires: 0,
                leaves: None,
            });
        }
        let answer = routes.oneshot(request).await.expect("an answer");
        let status = tonic::Status::from_header_map(answer.headers()).expect("a status");
        Reason::of(&status).expect("a reason")
    }

    #[tokio::test]
    async fn others_than_the_suite_are_refused_before_a_byte_of_theirs_is_read() {
        let ann = || UserId::new("ann");
        for outside in [
            Principal::User(ann()),
            Principal::ServiceFor(ann()),
            Principal::Service,
            Principal::Operator,
        ] {
            assert_eq!(refused(Some(outside)).await, Reason::NotAllowed);
        }
        assert_eq!(refused(None).await, Reason::TokenMissing);
    }
}
