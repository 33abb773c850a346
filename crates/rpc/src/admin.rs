//! The admin port: plain pages over HTTP/1 for what watches a process, at an address of its own.
//!
//! It takes no token, so it belongs into a network of operators. What it holds is bounded, and it
//! has nothing to do with the port that callers reach: neither can keep the other busy.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parlance_telemetry::metrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{Health, Tasks};

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 32;

/// How long a connection may take for its one request and the answer, and the making of a page
/// within that.
const CONNECTION: Duration = Duration::from_secs(10);
const PAGE: Duration = Duration::from_secs(5);

/// When to try again to accept a connection, after the machine had no place for one.
const AGAIN: Duration = Duration::from_millis(100);

/// What Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The pages of a process.
#[derive(Clone, Debug)]
pub struct Admin {
    tasks: Tasks,
    /// Once there is something to be ready.
    health: Arc<OnceLock<Health>>,
}

impl Admin {
    /// Pages of a process that is alive as long as its `tasks` are, and not ready yet.
    pub fn new(tasks: Tasks) -> Self {
        Self { tasks, health: Arc::default() }
    }

    /// From now on the process is ready when this says so. The first one counts.
    pub fn follow(&self, health: Health) {
        let _first = self.health.set(health);
    }

    /// Serves the pages, until it is dropped. A connection has one request, so none is kept by
    /// who does not ask.
    pub async fn serve(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                sleep(AGAIN).await;
                continue;
            };
            let this = self.clone();
            open.spawn(async move {
                let _bounded = timeout(CONNECTION, this.converse(stream)).await;
                drop(place);
            });
        }
    }

    async fn converse(&self, stream: TcpStream) -> Result<(), hyper::Error> {
        let pages =
            service_fn(|request| async move { Ok::<_, Infallible>(self.page(&request).await) });
        http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(PAGE)
            .serve_connection(TokioIo::new(stream), pages)
            .await
    }

    async fn page(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let known = request.method() == Method::GET || request.method() == Method::HEAD;
        let (status, text) = match request.uri().path() {
            "/metrics" | "/livez" | "/readyz" if !known => return refused(),
            "/metrics" => return measured().await,
            "/livez" => self.alive(),
            "/readyz" => self.ready(),
            _ => (StatusCode::NOT_FOUND, "not found\n"),
        };
        answer(status, TEXT, text.to_owned())
    }

    /// A process lives while its tasks do. It is not asked whether anything else is away: what
    /// restarts it would heal nothing.
    fn alive(&self) -> (StatusCode, &'static str) {
        match self.tasks.broken_by() {
            None => (StatusCode::OK, "alive\n"),
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "lost a task\n"),
        }
    }

    fn ready(&self) -> (StatusCode, &'static str) {
        match self.health.get() {
            Some(health) if health.is_ready() => (StatusCode::OK, "ready\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        }
    }
}

/// The page of metrics, made beside the calls: it takes a moment.
async fn measured() -> Response<Full<Bytes>> {
    match timeout(PAGE, tokio::task::spawn_blocking(metrics::page)).await {
        Ok(Ok(page)) => answer(StatusCode::OK, METRICS, page),
        _ => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too late\n".to_owned()),
    }
}

/// A page is only read.
fn refused() -> Response<Full<Bytes>> {
    let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refused
}

fn answer(status: StatusCode, of_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(of_type));
    response
}
