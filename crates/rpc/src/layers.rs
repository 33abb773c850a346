//! The steps of a request, in their order.

use std::convert::Infallible;

use http::{Request, Response};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

use crate::calling::traced;
use crate::each::Rates;
use crate::faults::CatchPanics;
use crate::input::BadInput;
use crate::observe::Observe;
use crate::step::{Last, Next, Step, StepLayer, Steps};
use crate::{Auth, Caller, Deadlines, RateLimit, Shed, TenantRate, Transport, in_process};

/// The largest request of a caller, in bytes; every public server is built with
/// it (`max_decoding_message_size`).
pub const MAX_REQUEST: usize = 256 * 1024;

/// The largest request to what needs no token, health and reflection, in bytes: names of
/// services and symbols. What arrives of a request is kept until it is whole.
pub(crate) const MAX_OPEN_REQUEST: usize = 4 * 1024;

/// The largest request and answer between services of the suite, in bytes.
pub const MAX_INTERNAL: usize = 16 * 1024 * 1024;

/// Services with every step around them.
pub type App = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The steps that every request passes: name and log it, catch panics, refuse what is no
/// request, bound its time, verify the caller, limit the caller's rate and the tenant's, and
/// bound what is held: calls and bytes.
#[derive(Clone, Debug)]
pub struct Layers {
    pub auth: Auth,
    pub deadlines: Deadlines,
    /// Network calls only: what the suite asks of itself was admitted already.
    pub rate: Option<RateLimit>,
    pub service_rate: Option<RateLimit>,
    /// Network calls only, likewise.
    pub tenant_rate: Option<TenantRate>,
    pub shed: Option<Shed>,
    /// The requests that are not finished yet, health and reflection apart.
    pub in_flight: TaskTracker,
}

impl Layers {
    /// The steps with their defaults: 1,000 calls a second and 2,000 at once per
    /// user, ten times as many per backend, 4,096 calls handled at once.
    pub fn new(auth: Auth) -> Self {
        Self {
            auth,
            deadlines: Deadlines::default(),
            rate: RateLimit::new(1000, 2000),
            service_rate: RateLimit::of_services(10_000, 20_000),
            tenant_rate: None,
            shed: Some(Shed::new(4096)),
            in_flight: TaskTracker::new(),
        }
    }

    /// Services as the network reaches them.
    pub fn network(&self, routes: Routes) -> App {
        self.wrap(routes)
    }

    /// Services as other services in this process reach them: callers are verified
    /// and calls are bounded all the same.
    pub fn in_process(&self, routes: Routes) -> Transport {
        let none =
            Self { rate: None, service_rate: None, tenant_rate: None, shed: None, ..self.clone() };
        traced(in_process(none.wrap(routes)))
    }

    fn wrap(&self, routes: Routes) -> App {
        let rates = Rates {
            rate: self.rate.clone(),
            service_rate: self.service_rate.clone(),
            tenant_rate: self.tenant_rate.clone(),
            deadline: Some(self.deadlines.default),
        };
        let services = ServiceBuilder::new()
            .layer(StepLayer(Observe::new(self.in_flight.clone())))
            .layer(StepLayer(CatchPanics))
            .layer(StepLayer(BadInput))
            .layer(StepLayer(self.deadlines.clone()))
            .layer(StepLayer(self.auth.clone()))
            .layer(StepLayer(self.rate.clone()))
            .layer(StepLayer(self.service_rate.clone()))
            .layer(StepLayer(self.tenant_rate.clone()))
            .layer(StepLayer(rates))
            .layer(StepLayer(self.shed.clone()))
            .layer(StepLayer(Named))
            .service(Last(routes.prepare()));
        BoxCloneSyncService::new(Steps::new(services))
    }
}

/// The step that lets the work on a request know whose it is.
#[derive(Clone, Debug)]
struct Named;

impl Step for Named {
    async fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        match request.extensions().get::<Caller>().map(Caller::whose) {
            Some(whose) => whose.does(next.call(request)).await,
            None => next.call(request).await,
        }
    }
}

/// A step that may be left out.
impl<T: Step> Step for Option<T> {
    async fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        match self {
            Some(step) => step.run(request, next).await,
            None => next.call(request).await,
        }
    }
}
