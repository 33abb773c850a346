//! Health, per service and of all: NOT_SERVING until ready and while draining.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::layers::MAX_OPEN_REQUEST;

/// What stands for all services beside `""`: whether the process is ready, for probes that have
/// to name something.
const READINESS: &str = "readiness";

/// Whether the process lives: it does as long as it answers. What a process waits for, such as a
/// database, comes back by itself, and a restart would not bring it back sooner.
const LIVENESS: &str = "liveness";

/// Tells clients whether services are ready. The name `""` stands for all of them.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: Arc<[String]>,
    /// As it was said last of all services together.
    ready: Arc<AtomicBool>,
    /// Held while something is said, so that nothing is said after the drain began.
    draining: Arc<Mutex<bool>>,
}

impl Health {
    /// Services that are not ready yet, by their full names.
    pub async fn new(services: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let services = services.into_iter().map(Into::into).collect();
        let (reporter, ready, draining) = (HealthReporter::new(), Arc::default(), Arc::default());
        let health = Self { reporter, services, ready, draining };
        health.set_all(false).await;
        health.say_of(LIVENESS, true).await;
        health
    }

    /// Adds the health service.
    pub fn with_health(&self, routes: Routes) -> Routes {
        let service = HealthService::from_health_reporter(self.reporter.clone());
        routes.add_service(HealthServer::new(service).max_decoding_message_size(MAX_OPEN_REQUEST))
    }

    /// Whether every service is ready.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Says whether every service is ready. Once draining, none is again.
    pub async fn set_all(&self, ready: bool) {
        let draining = self.draining.lock().await;
        if !*draining {
            self.say(ready).await;
        }
    }

    /// Says whether one service is ready. Once draining, it is not again.
    pub async fn set(&self, service: &str, ready: bool) {
        let draining = self.draining.lock().await;
        if !*draining {
            self.say_of(service, ready).await;
        }
    }

    /// Says that no service is ready, from now on.
    pub(crate) async fn drain(&self) {
        let mut draining = self.draining.lock().await;
        *draining = true;
        self.say(false).await;
    }

    async fn say(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
        for service in self.services.iter() {
            self.say_of(service, ready).await;
        }
        self.say_of(READINESS, ready).await;
        self.say_of("", ready).await;
    }

    async fn say_of(&self, service: &str, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(service, status).await;
    }

    /// Ends the streams of those who watch.
    pub(crate) async fn end(&self) {
        let mut reporter = self.reporter.clone();
        for service in self.services.iter() {
            reporter.clear_service_status(service).await;
        }
        for name in [READINESS, LIVENESS, ""] {
            reporter.clear_service_status(name).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;
    use tonic::IntoRequest as _;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_server::Health as _;

    use super::*;

    async fn serves(health: &Health, service: &str) -> bool {
        let server = HealthService::from_health_reporter(health.reporter.clone());
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = server.check(request.into_request()).await.expect("an answer").into_inner();
        answer.status == ServingStatus::Serving as i32
    }

    #[tokio::test]
    async fn services_are_ready_when_somebody_says_so() {
        let health = Health::new(["a", "b"]).await;
        assert!(!serves(&health, "a").await && !serves(&health, "").await);
        health.set_all(true).await;
        assert!(serves(&health, "a").await && serves(&health, "b").await);
        assert!(serves(&health, "").await);
        health.set("a", false).await;
        assert!(!serves(&health, "a").await && serves(&health, "b").await);
    }

    /// Whoever says that it is ready may be anywhere when the drain begins.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn once_draining_nothing_is_ready_again() {
        for round in 0..10_000 {
            let health = Health::new(["a", "b"]).await;
            let saying = health.clone();
            let saying = tokio::spawn(async move { saying.set_all(true).await });
            for _ in 0..round % 8 {
                yield_now().await;
            }
            health.drain().await;
            saying.await.expect("said");
            for service in ["a", "b", "readiness", ""] {
                assert!(!serves(&health, service).await, "{service:?} in round {round}");
            }
            assert!(serves(&health, "liveness").await, "it lives in round {round}");
        }
    }
}
