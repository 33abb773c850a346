//! Health, per service and of all: NOT_SERVING until ready and while draining.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Tells clients whether services are ready. The name `""` stands for all of them.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: Arc<[String]>,
    draining: Arc<AtomicBool>,
}

impl Health {
    /// Services that are not ready yet, by their full names.
    pub async fn new(services: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let services = services.into_iter().map(Into::into).collect();
        let health = Self { reporter: HealthReporter::new(), services, draining: Arc::default() };
        health.set_all(false).await;
        health
    }

    /// Adds the health service.
    pub fn with_health(&self, routes: Routes) -> Routes {
        let service = HealthService::from_health_reporter(self.reporter.clone());
        routes.add_service(HealthServer::new(service))
    }

    /// Says whether every service is ready. Once draining, none is again.
    pub async fn set_all(&self, ready: bool) {
        for service in self.services.iter() {
            self.set(service, ready).await;
        }
        self.set("", ready).await;
    }

    /// Says whether one service is ready. Once draining, it is not again.
    pub async fn set(&self, service: &str, ready: bool) {
        if ready && self.draining.load(Ordering::SeqCst) {
            return;
        }
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(service, status).await;
    }

    /// Says that no service is ready, from now on.
    pub(crate) async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.set_all(false).await;
    }

    /// Ends the streams of those who watch.
    pub(crate) async fn end(&self) {
        let mut reporter = self.reporter.clone();
        for service in self.services.iter() {
            reporter.clear_service_status(service).await;
        }
        reporter.clear_service_status("").await;
    }
}
