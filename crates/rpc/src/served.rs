//! The gRPC services that a process serves, each with its limits.

use std::convert::Infallible;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

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

/// Collects servers of the suite itself: each takes requests up to `MAX_INTERNAL`.
#[macro_export]
macro_rules! internal {
    ($($server:expr),+ $(,)?) => {
        $crate::Served::default()
            $(.with($server.max_decoding_message_size($crate::MAX_INTERNAL)))+
    };
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
