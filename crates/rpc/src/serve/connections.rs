//! The connections of a server, and what each may do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::ServiceExt;

use super::watched::{Allowance, Progress, Watched};
use crate::gather::Gather;
use crate::layers::App;

/// The most calls at once on one connection.
const MAX_STREAMS: u32 = 128;

/// Calls that were reset before they were looked at; more end the connection.
const MAX_PENDING_RESETS: usize = 32;

/// The largest header list of a request, in bytes: the longest token, and as much baggage as
/// its standard allows.
const MAX_HEADERS: u32 = 24 * 1024;

/// How much of one answer is kept for a client that reads slowly, in bytes.
const SEND_BUFFER: usize = 32 * 1024;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection without a call may take to end when it is asked to.
const GOODBYE: Duration = Duration::from_secs(10);

/// What connections may do.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The most connections at once.
    pub all: usize,
    /// The most of one remote address; of IPv6, of one network of 64 bits.
    pub per_address: usize,
    /// How long a new connection may take to say that it speaks HTTP/2, and how.
    pub handshake: Duration,
    /// How long it may take to make its first call.
    pub first_call: Duration,
    /// How often a silent connection is asked whether it lives.
    pub keepalive: Duration,
    /// How long it may take to answer.
    pub keepalive_timeout: Duration,
    /// How many frames that carry nothing (pings, settings) it may send while it gets
    /// no answer to a call, and how soon one is forgiven.
    pub idle_frames: u32,
    pub idle_frame_every: Duration,
    /// How many calls it may reset more than were answered, and how soon one is
    /// forgiven.
    pub resets: u32,
    pub reset_every: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            all: 16_384,
            per_address: 1024,
            handshake: Duration::from_secs(10),
            first_call: Duration::from_mins(5),
            keepalive: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            // Stock clients ping every 10 s at most, and once per round trip while
            // answers come.
            idle_frames: 256,
            idle_frame_every: Duration::from_secs(1),
            resets: 1024,
            reset_every: Duration::from_millis(10),
        }
    }
}

/// The open connections.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    open: TaskTracker,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// No new connection, and no new request on an open one.
    pub(super) close: CancellationToken,
    /// No connection at all.
    pub(super) cut: CancellationToken,
}

/// The place of a connection among those of its address, until it is dropped.
struct Place {
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// What is counted as one address: of IPv6 the network, since a host has all of it.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        let (close, cut) = (CancellationToken::new(), CancellationToken::new());
        Self { limits, open: TaskTracker::new(), addresses: Arc::default(), close, cut }
    }

    pub(super) async fn accept(self, listener: TcpListener, app: App) {
        let mut told: Option<Instant> = None;
        while let Some(accepted) = self.close.run_until_cancelled(listener.accept()).await {
            let (stream, address) = match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Most likely out of file descriptors: wait until some are free.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(place) = self.place(address) else {
                // Once a second: who floods the server shall not flood its log.
                if told.is_none_or(|told| told.elapsed() > Duration::from_secs(1)) {
                    tracing::warn!(%address, "refused connections: too many are open");
                    told = Some(Instant::now());
                }
                continue;
            };
            let (connections, app) = (self.clone(), app.clone());
            self.open.spawn(async move {
                connections.connection(stream, app).await;
                drop(place);
            });
        }
        self.open.close();
    }

    /// A place for one more connection, if there is one.
    fn place(&self, address: IpAddr) -> Option<Place> {
        let address = counted(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.get(&address).copied().unwrap_or_default();
        if self.open.len() >= self.limits.all || count >= self.limits.per_address {
            return None;
        }
        addresses.insert(address, count + 1);
        Some(Place { addresses: Arc::clone(&self.addresses), address })
    }

    /// Serves one connection until it closes.
    async fn connection(&self, stream: TcpStream, app: App) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot send small packets at once");
        }
        let began = Instant::now();
        let settled_by = began + self.limits.handshake;
        // One that says nothing does not hold up the end.
        let speaks = timeout_at(settled_by, speaks_http2(&stream));
        if !matches!(self.close.run_until_cancelled(speaks).await, Some(Ok(true))) {
            return;
        }
        let app =
            app.map_request(|request: http::Request<hyper::body::Incoming>| request.map(Body::new));
        let progress = Arc::new(Progress::default());
        let stream = Gather::new(stream);
        let stream = Watched::new(stream, self.allowances(), Arc::clone(&progress));
        let connection =
            self.builder().serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
        let mut connection = std::pin::pin!(connection);
        let idle_until = began + self.limits.first_call;
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = late(settled_by, || progress.is_settled()) => {
                tracing::debug!("a connection took too long to begin");
                return;
            }
            () = late(idle_until, || progress.has_called()) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    // Unless a call came while the goodbye went out.
                    () = late(Instant::now() + GOODBYE, || progress.has_called()) => return,
                    () = self.cut.cancelled() => return,
                }
            }
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
    pub(super) async fn closed(&self, accepting: impl Future) {
        accepting.await;
        self.open.wait().await;
    }

    fn allowances(&self) -> (Allowance, Allowance) {
        let ConnectionLimits { idle_frames, idle_frame_every, resets, reset_every, .. } =
            self.limits;
        (Allowance::new(idle_frames, idle_frame_every), Allowance::new(resets, reset_every))
    }

    fn builder(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(256)
            .keep_alive_interval(self.limits.keepalive)
            .keep_alive_timeout(self.limits.keepalive_timeout);
        builder
    }
}

/// Ends at `due` unless it was done by then; then never.
async fn late(due: Instant, done: impl Fn() -> bool) {
    sleep_until(due).await;
    if done() {
        std::future::pending::<()>().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_one_host() {
        let of = |text: &str| counted(text.parse().expect("an address"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:3:4:5:6"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
