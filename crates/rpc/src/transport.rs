//! How a request reaches another service.

use std::convert::Infallible;

use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::{self, Channel};
use tower::Service;
use tower::util::{BoxCloneSyncService, MapErr};

/// Carries requests to another service, over the network or within the process.
///
/// Every generated client takes one: `RoomServiceClient::new(transport)`.
pub type Transport = BoxCloneSyncService<Request<Body>, Response<Body>, transport::Error>;

/// Reaches a service across the network.
pub fn remote(channel: Channel) -> Transport {
    BoxCloneSyncService::new(channel)
}

/// Reaches services that live in this process, without a socket.
pub fn in_process<S>(services: S) -> Transport
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    BoxCloneSyncService::new(MapErr::new(services, |never: Infallible| match never {}))
}
