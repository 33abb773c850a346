//! The connections of a server, and what each may do.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::ServiceExt;

use super::answer::Answer;
use super::guard::{CALL, Guard};
use super::opening::{Opened, open};
use super::watched::{Allowance, Progress, Watched};
use crate::gather::Gather;
use crate::layers::App;
use crate::line::{Line, Pace};
use crate::shed::Charge;
use crate::tls::Tls;

/// The most calls at once on one connection.
const MAX_STREAMS: u32 = 128;

/// Calls that were reset before they were looked at; more end the connection. More than come
/// with one read of a client that sends its requests whole, and than the pace of resets lets
/// through.
const MAX_PENDING_RESETS: usize = 1024;

/// The largest header list of a request, in bytes: the longest token, and as much baggage as
/// its standard allows.
pub(super) const MAX_HEADERS: u32 = 24 * 1024;

/// How much of one answer the HTTP library takes beyond the client's window, in bytes.
const SEND_BUFFER: usize = 32 * 1024;

/// How long a connection without a call may take to end when it is asked to.
const GOODBYE: Duration = Duration::from_secs(10);

/// How long a connection that got old may take to end. Its streams go elsewhere soon, and what
/// it brings or gets of attachments is at its end within an hour.
pub(super) const LEFT: Duration = Duration::from_mins(65);

/// Part of the age by which the ages of connections differ, in both directions, and within which
/// the streams of one go elsewhere.
const AGE_SPREAD: u32 = 10;

/// What connections may do.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The most connections at once.
    pub all: usize,
    /// The most of one remote address; of IPv6, of one network of 64 bits.
    pub per_address: usize,
    /// How long a new connection may take to say that it speaks HTTP/2, and how.
    pub handshake: Duration,
    /// How long it may take to show a good token.
    pub stranger: Duration,
    /// How often a silent connection is asked whether it lives.
    pub keepalive: Duration,
    /// How long it may take to answer.
    pub keepalive_timeout: Duration,
    /// How many frames that carry nothing (pings, settings) it may send while it gets
    /// no answer to a call, and how soon one is forgiven.
    pub idle_frames: u32,
    pub idle_frame_every: Duration,
    /// How many calls it may have refused, or reset before they were answered, and how soon
    /// one is forgiven. Of one that is faster less is read.
    pub in_vain: u32,
    pub in_vain_every: Duration,
    /// How old a connection gets, more or less, before its client is sent elsewhere.
    pub age: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            all: 16_384,
            per_address: 1024,
            handshake: Duration::from_secs(10),
            stranger: Duration::from_mins(1),
            keepalive: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            // Stock clients ping every 10 s at most, and once per round trip while
            // answers come.
            idle_frames: 256,
            idle_frame_every: Duration::from_secs(1),
            in_vain: 256,
            in_vain_every: Duration::from_millis(1),
            age: Duration::from_mins(30),
        }
    }
}

/// The open connections.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pub(super) limits: ConnectionLimits,
    tls: Option<Tls>,
    http1: bool,
    open: TaskTracker,
    places: Arc<Mutex<Places>>,
    /// No new connection, and no new request on an open one.
    pub(super) close: CancellationToken,
    /// No connection at all.
    pub(super) cut: CancellationToken,
}

/// The connections of each address, the oldest first.
#[derive(Debug, Default)]
struct Places {
    addresses: HashMap<IpAddr, BTreeMap<u64, Arc<Line>>>,
    open: usize,
    next: u64,
}

/// The place of a connection among those of its address, until it is dropped.
struct Place {
    places: Arc<Mutex<Places>>,
    address: IpAddr,
    id: u64,
}

impl Places {
    /// A place for one more, if there is one. Whoever showed no good token so far makes room:
    /// the oldest first.
    fn take(
        &mut self,
        address: IpAddr,
        line: &Arc<Line>,
        limits: &ConnectionLimits,
    ) -> Option<u64> {
        let stranger = |lines: &BTreeMap<u64, Arc<Line>>| {
            lines.iter().find(|(_, line)| !line.is_known()).map(|(id, _)| *id)
        };
        let here = self.addresses.get(&address);
        let gone = if here.is_some_and(|lines| lines.len() >= limits.per_address) {
            Some((here.and_then(stranger)?, address))
        } else if self.open >= limits.all {
            let all = self.addresses.iter();
            Some(all.filter_map(|(address, lines)| Some((stranger(lines)?, *address))).min()?)
        } else {
            None
        };
        if let Some((id, address)) = gone
            && let Some(line) = self.leave(address, id)
        {
            line.end.cancel();
        }
        let id = self.next;
        self.next += 1;
        self.open += 1;
        self.addresses.entry(address).or_default().insert(id, Arc::clone(line));
        Some(id)
    }

    fn leave(&mut self, address: IpAddr, id: u64) -> Option<Arc<Line>> {
        let lines = self.addresses.get_mut(&address)?;
        let line = lines.remove(&id)?;
        self.open -= 1;
        if lines.is_empty() {
            self.addresses.remove(&address);
        }
        Some(line)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.leave(self.address, self.id);
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
    pub(super) fn new(limits: ConnectionLimits, tls: Option<Tls>, http1: bool) -> Self {
        let (close, cut) = (CancellationToken::new(), CancellationToken::new());
        let (open, places) = (TaskTracker::new(), Arc::default());
        Self { limits, tls, http1, open, places, close, cut }
    }

    pub(super) async fn accept(self, listener: TcpListener, app: App) {
        // Once a second: who floods the server shall not flood its log.
        let mut told: Option<Instant> = None;
        let mut tell = || {
            let tell = told.is_none_or(|told| told.elapsed() > Duration::from_secs(1));
            if tell {
                told = Some(Instant::now());
            }
            tell
        };
        while let Some(accepted) = self.close.run_until_cancelled(listener.accept()).await {
            let (stream, address) = match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    if tell() {
                        tracing::warn!(%error, "cannot accept a connection");
                    }
                    // Most likely out of file descriptors: wait until some are free.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let line = Arc::new(self.line());
            let Some(place) = self.place(address, &line) else {
                if tell() {
                    tracing::warn!(%address, "refused connections: too many are open");
                }
                continue;
            };
            let (connections, app) = (self.clone(), app.clone());
            self.open.spawn(async move {
                connections.connection(stream, app, line).await;
                drop(place);
            });
        }
        self.open.close();
    }

    /// A place for one more connection, if there is one.
    fn place(&self, address: IpAddr, line: &Arc<Line>) -> Option<Place> {
        let address = counted(address);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let id = places.take(address, line, &self.limits)?;
        Some(Place { places: Arc::clone(&self.places), address, id })
    }

    /// Serves one connection until it closes.
    async fn connection(&self, stream: TcpStream, app: App, line: Arc<Line>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot send small packets at once");
        }
        let began = Instant::now();
        let settled_by = began + self.limits.handshake;
        // One that says nothing does not hold up the end.
        let opened = open(stream, self.tls.as_ref(), self.http1, &line);
        let opened = timeout_at(settled_by, opened);
        let opened = line.end.run_until_cancelled(self.close.run_until_cancelled(opened)).await;
        let Some(Some(Ok(Some(Opened { stream, is_http1 })))) = opened else { return };
        if is_http1 {
            return self.http1(stream, app, line).await;
        }
        let served = serve(app, &line);
        let progress = Arc::new(Progress::default());
        let stream = Gather::new(stream);
        let stream =
            Watched::new(stream, self.allowance(), Arc::clone(&progress), Arc::clone(&line));
        let builder = self.builder(Guard(Arc::clone(&line)));
        let connection = builder.serve_connection(TokioIo::new(stream), served);
        let mut connection = std::pin::pin!(connection);
        let known_by = began + self.limits.stranger;
        let aged = line.ages_at().unwrap_or(known_by);
        // What asks it to end, and when it is cut then.
        let cut_at = tokio::select! {
            ended = &mut connection => return tell_end(ended),
            () = late(settled_by, || progress.is_settled()) => {
                tracing::debug!("a connection took too long to begin");
                return;
            }
            () = late(known_by, || line.is_known()) => Some((Instant::now() + GOODBYE, true)),
            () = late(aged, || line.ages_at().is_none()) => Some((aged + LEFT, false)),
            () = line.end.cancelled() => return,
            () = self.close.cancelled() => None,
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => tell_end(ended),
            // Unless a good call came while the goodbye went out to a stranger.
            () = overdue(cut_at, &line) => {}
            () = line.end.cancelled() => {}
            () = self.cut.cancelled() => {}
        }
    }

    /// Waits until nobody listens and every connection is closed.
    pub(super) async fn closed(&self, accepting: impl Future) {
        accepting.await;
        self.open.wait().await;
    }

    fn allowance(&self) -> Allowance {
        Allowance::new(self.limits.idle_frames, self.limits.idle_frame_every)
    }

    /// What is known of a new connection. They get old at different times, so that clients do not
    /// come again all at once.
    fn line(&self) -> Line {
        let spread = self.limits.age / AGE_SPREAD;
        let earliest = Instant::now() + spread * (AGE_SPREAD - 1);
        let aged = earliest + rand::random_range(Duration::ZERO..=2 * spread);
        Line::aging(Pace::new(self.limits.in_vain, self.limits.in_vain_every), aged, spread)
    }

    fn builder(&self, guard: Guard) -> http2::Builder<Guard> {
        let mut builder = http2::Builder::new(guard);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            // Each costs its client time instead, as what is in vain.
            .max_local_error_reset_streams(None)
            .keep_alive_interval(self.limits.keepalive)
            .keep_alive_timeout(self.limits.keepalive_timeout);
        builder
    }
}

/// What a connection calls: the services, with what is known of it, and answers that are
/// counted.
pub(super) fn serve(
    app: App,
    line: &Arc<Line>,
) -> impl hyper::service::Service<
    http::Request<Incoming>,
    Response = http::Response<Answer>,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    let (called, paced) = (Arc::clone(line), Arc::clone(line));
    let app = app.map_request(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&called));
        request
    });
    TowerToHyperService::new(app.map_response(move |mut response: http::Response<Body>| {
        // Without a charge it was refused before it was handled.
        let charge = response.extensions_mut().remove::<Arc<Charge>>();
        if charge.is_none() {
            paced.pace().take();
        } else {
            paced.pace().give();
        }
        let call = CALL.try_with(Arc::clone).unwrap_or_default();
        response.map(|body| Answer::new(body, call, charge))
    }))
}

pub(super) fn tell_end<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}

/// Ends when a connection that was asked to end is cut, if it ever is: one that may be a
/// stranger's is not once it is known.
async fn overdue(cut_at: Option<(Instant, bool)>, line: &Line) {
    match cut_at {
        Some((at, stranger)) => late(at, || stranger && line.is_known()).await,
        None => std::future::pending().await,
    }
}

/// Ends at `due` unless it was done by then; then never.
pub(super) async fn late(due: Instant, done: impl Fn() -> bool) {
    sleep_until(due).await;
    if done() {
        std::future::pending::<()>().await;
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
