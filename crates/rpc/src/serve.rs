//! Serves over the network, and stops without cutting anyone off.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::layers::App;
use crate::{Health, Layers, with_reflection};

/// The most connections at once.
const MAX_CONNECTIONS: usize = 16_384;

/// The most calls at once on one connection.
const MAX_STREAMS: u32 = 128;

/// The largest header list of a request, in bytes.
const MAX_HEADERS: u32 = 8 * 1024;

/// How much of one answer is kept for a client that reads slowly, in bytes.
const SEND_BUFFER: usize = 32 * 1024;

/// How long a new connection may take to say that it speaks HTTP/2, and how.
const PREFACE_WITHIN: Duration = Duration::from_secs(10);
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How often a silent connection is asked whether it lives, and how long it may
/// take to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Cancelled when the process is asked to stop: SIGTERM or SIGINT.
pub fn termination() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}

/// Serves services over the network.
#[derive(Clone, Debug)]
pub struct Server {
    pub layers: Layers,
    pub health: Health,
    /// Cancelled when the server begins to drain: open streams watch it and say
    /// goodbye.
    pub draining: CancellationToken,
    /// How long draining may take in all.
    pub drain: Duration,
}

impl Server {
    /// Serves `routes`, health and reflection on `listener` until `shutdown`, then
    /// drains: says it is not ready, tells streams to end, lets requests finish,
    /// stops listening, lets connections close. What is left after `drain` is cut.
    pub async fn serve(
        self,
        listener: TcpListener,
        routes: Routes,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let routes = with_reflection(self.health.with_health(routes)).map_err(io::Error::other)?;
        let app = self.layers.network(routes);
        let connections = Connections::default();
        let accepting = tokio::spawn(connections.clone().accept(listener, app));

        shutdown.cancelled().await;
        let end = Instant::now() + self.drain;
        tracing::info!(bound = ?self.drain, "draining");
        self.health.drain().await;
        self.draining.cancel();
        self.layers.in_flight.close();
        // Half of the bound; the other half is for connections to close.
        let requests = timeout(self.drain / 2, self.layers.in_flight.wait()).await;
        connections.close.cancel();
        self.health.end().await;
        let closed = timeout_at(end, connections.closed(accepting)).await;
        connections.cut.cancel();
        match (requests, closed) {
            (_, Ok(())) => tracing::info!("drained"),
            (_, Err(_)) => tracing::warn!("cut what did not end within the bound"),
        }
        Ok(())
    }
}

/// The open connections.
#[derive(Clone, Debug, Default)]
struct Connections {
    open: TaskTracker,
    /// No new connection, and no new request on an open one.
    close: CancellationToken,
    /// No connection at all.
    cut: CancellationToken,
}

impl Connections {
    async fn accept(self, listener: TcpListener, app: App) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Some(accepted) = self.close.run_until_cancelled(listener.accept()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Most likely out of file descriptors: wait until some are free.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                tracing::warn!("refused a connection: too many are open");
                continue;
            };
            let (connections, app) = (self.clone(), app.clone());
            self.open.spawn(async move {
                connections.connection(stream, app).await;
                drop(permit);
            });
        }
        self.open.close();
    }

    /// Serves one connection until it closes.
    async fn connection(&self, stream: TcpStream, app: App) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot send small packets at once");
        }
        if !matches!(timeout(PREFACE_WITHIN, speaks_http2(&stream)).await, Ok(true)) {
            return;
        }
        let app =
            app.map_request(|request: http::Request<hyper::body::Incoming>| request.map(Body::new));
        let connection =
            builder().serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.close.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection failed");
        }
    }

    /// Waits until nobody listens and every connection is closed.
    async fn closed(&self, accepting: impl Future) {
        accepting.await;
        self.open.wait().await;
    }
}

/// Looks at the first bytes of a connection until they are the whole preface, or
/// cannot be.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut seen = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut seen).await {
            Ok(count) if count == seen.len() => return &seen == PREFACE,
            Ok(count) if count > 0 && PREFACE.starts_with(&seen[..count]) => {
                // It is there to be read at once: a wait instead of a busy loop.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            _ => return false,
        }
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
