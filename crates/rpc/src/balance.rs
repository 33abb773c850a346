//! Reaches a service of the suite that runs as several replicas.
//!
//! A call that gets no answer from one replica - nobody listens, the connection
//! breaks, nothing comes in its share of the time - goes to the next one: every
//! call between services is idempotent. What a replica does answer, UNAVAILABLE
//! too, is the caller's to judge.

mod addresses;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::select_all;
use http::{Request, Response, Uri, request};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};

pub use self::addresses::{Addresses, InvalidAddresses};

use self::addresses::{Found, Lookups};
use crate::calling::traced;
use crate::deadline::asked;
use crate::tls::Secure;
use crate::{DEFAULT_DEADLINE, Tasks, Tls, Transport};

/// How often one call is tried in all: once per replica, within these bounds.
const TRIES: RangeInclusive<usize> = 3..=8;

/// The least share of what is left of its time that a call spends on one replica
/// while there are others: one of so many.
const SHARE: u32 = 3;

/// How long, in milliseconds, a replica that did not answer is asked only after the others.
const SHUNNED: u64 = 1000;

/// Calls at once to one replica: fewer than the 128 that a server of the suite
/// takes on one connection, so that none waits where nobody can tell why.
const AT_ONCE: usize = 100;

/// The pause before a call goes to a replica that it has tried already.
const PAUSE: Duration = Duration::from_millis(20);

const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often names are looked up; sooner when a replica does not answer, which may have gone.
const LOOKUP_EVERY: Duration = Duration::from_secs(5);

/// The least time from one look to the next.
const LOOKUP_PAUSE: Duration = Duration::from_millis(250);

/// How long a call that no replica answered waits for the next look.
const LOOKUP_WAIT: Duration = Duration::from_secs(1);

/// Reaches a service across the network, whichever of its replicas are there.
///
/// For unary calls that may be repeated. A call answers UNAVAILABLE when no
/// replica answered it within its `grpc-timeout`. Names are looked up again and again, as one
/// of the `tasks`. Where it is reached over TLS it shows that it is a service of the suite.
pub async fn balanced(addresses: Addresses, tls: &Tls, tasks: &Tasks) -> Transport {
    let secure = addresses.are_secure().then(|| Secure::to_suite(tls.clone()));
    reached(addresses, secure, tasks).await
}

/// The same, of a service that is not of the suite: over TLS it shows the name by which it is
/// called.
pub async fn balanced_outside(addresses: Addresses, tls: &Tls, tasks: &Tasks) -> Transport {
    let secure = addresses.are_secure().then(|| Secure::to_host(tls.clone()));
    reached(addresses, secure, tasks).await
}

async fn reached(addresses: Addresses, secure: Option<Secure>, tasks: &Tasks) -> Transport {
    let names = (!addresses.are_fixed()).then(Names::default);
    let replicas = Arc::new(Replicas { names, secure, ..Replicas::default() });
    let lookups = Arc::new(Mutex::new(Lookups::of(addresses)));
    let look = move || {
        let lookups = Arc::clone(&lookups);
        async move { lookups.lock().await.look_up().await }
    };
    replicas.look_up(look, tasks).await;
    transport(replicas)
}

fn transport(replicas: Arc<Replicas>) -> Transport {
    let service = service_fn(move |request: Request<Body>| {
        let replicas = Arc::clone(&replicas);
        async move { Ok::<_, tonic::transport::Error>(replicas.call(request).await) }
    });
    traced(BoxCloneSyncService::new(service))
}

#[derive(Debug)]
struct Replicas {
    known: ArcSwap<Vec<Arc<Replica>>>,
    /// Whose turn it is.
    turn: AtomicUsize,
    /// What times are counted from.
    began: Instant,
    /// Where replicas may move.
    names: Option<Names>,
    /// Where they speak TLS.
    secure: Option<Secure>,
}

/// Names whose addresses may change.
#[derive(Debug, Default)]
struct Names {
    /// That somebody wants to know them now.
    wanted: Arc<Notify>,
    /// Sent after every look.
    looked: watch::Sender<()>,
}

#[derive(Debug)]
struct Replica {
    address: SocketAddr,
    channel: Channel,
    /// Room for more calls.
    room: Arc<Semaphore>,
    /// 0 while it answers. Else when one call may try it again, in milliseconds
    /// since the beginning.
    shunned_until: AtomicU64,
}

/// A replica to ask, and the room that the call takes there.
type Place = (Arc<Replica>, OwnedSemaphorePermit);

impl Default for Replicas {
    fn default() -> Self {
        let known = ArcSwap::from_pointee(Vec::new());
        let (turn, began) = (AtomicUsize::new(0), Instant::now());
        Self { known, turn, began, names: None, secure: None }
    }
}

impl Replicas {
    /// Looks up the addresses, and of names again and again, as one of the `tasks`.
    async fn look_up<W>(self: &Arc<Self>, look: impl Fn() -> W + Send + 'static, tasks: &Tasks)
    where
        W: Future<Output = Found> + Send + 'static,
    {
        self.become_those(&look().await);
        let Some(names) = &self.names else { return };
        let replicas = Arc::clone(self);
        tasks.every("addresses", LOOKUP_EVERY, Arc::clone(&names.wanted), move || {
            let (replicas, found) = (Arc::clone(&replicas), look());
            async move {
                replicas.become_those(&found.await);
                if let Some(names) = &replicas.names {
                    names.looked.send_replace(());
                }
                sleep(LOOKUP_PAUSE).await;
                Ok::<_, Infallible>(())
            }
        });
    }

    /// Has names looked up: a replica that does not answer may be elsewhere now.
    fn look_again(&self) {
        if let Some(names) = &self.names {
            names.wanted.notify_one();
        }
    }

    /// Those to try when none answered, a moment later; of names, once they were looked up.
    async fn once_more(&self, looked: Option<&mut watch::Receiver<()>>) -> Vec<Arc<Replica>> {
        self.look_again();
        sleep(PAUSE).await;
        if let Some(looked) = looked
            && timeout(LOOKUP_WAIT, looked.changed()).await.is_err()
        {
            tracing::debug!("the names of replicas are not looked up in time");
        }
        self.by_turns()
    }

    fn become_those(&self, addresses: &Found) {
        let known = self.known.load();
        let keep = |(address, name): (&SocketAddr, &Arc<str>)| {
            let kept = known.iter().find(|replica| replica.address == *address);
            let new = || Arc::new(Replica::new(*address, name, self.secure.as_ref()));
            kept.map_or_else(new, Arc::clone)
        };
        self.known.store(Arc::new(addresses.iter().map(keep).collect()));
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The replicas, each first when it is its turn.
    fn by_turns(&self) -> Vec<Arc<Replica>> {
        let mut order = Vec::clone(&self.known.load());
        if !order.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % order.len();
            order.rotate_left(turn);
        }
        order
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let message = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(status) => return status.into_http(),
        };
        let limit = asked(&head.headers).ok().flatten().unwrap_or(DEFAULT_DEADLINE);
        let until = Instant::now() + limit;
        let mut looked = self.names.as_ref().map(|names| names.looked.subscribe());
        let mut untried = self.by_turns();
        let all = untried.len();
        for number in 0..all.clamp(*TRIES.start(), *TRIES.end()) {
            if untried.is_empty() {
                let again = timeout_at(until, self.once_more(looked.as_mut())).await;
                let Ok(again) = again else { break };
                untried = again;
            }
            // That all have their hands full is no silence.
            let next = timeout_at(until, self.next(&mut untried)).await;
            let Ok(Some((replica, _room))) = next else { break };
            let left = until.saturating_duration_since(Instant::now());
            // Silence of one replica leaves time for the others.
            let others = if number < all { untried.len() } else { 0 };
            let share = left / u32::try_from(others + 1).map_or(SHARE, |of| of.min(SHARE));
            match timeout(share, replica.call(&head, message.clone())).await {
                Ok(Ok(response)) => {
                    replica.shunned_until.store(0, Ordering::Relaxed);
                    return response;
                }
                Ok(Err(error)) => {
                    tracing::debug!(address = %replica.address, %error, "a replica failed");
                }
                Err(_) => tracing::debug!(address = %replica.address, "a replica is silent"),
            }
            self.look_again();
            let shunned = self.now().saturating_add(SHUNNED);
            replica.shunned_until.store(shunned, Ordering::Relaxed);
        }
        Status::unavailable("no replica of the service answered").into_http()
    }

    /// Takes out the replica to ask next: one that did not answer if it is time to
    /// try it again, else the first with room of those that answer, else of all.
    /// Waits for room.
    async fn next(&self, untried: &mut Vec<Arc<Replica>>) -> Option<Place> {
        let first = untried.first()?;
        if let Ok(room) = Arc::clone(&first.room).try_acquire_owned()
            && first.may_be_tried_again(self.now())
        {
            return Some((untried.remove(0), room));
        }
        loop {
            let all = || untried.iter().enumerate();
            let mut asked: Vec<_> = all().filter(|(_, replica)| replica.answers()).collect();
            let some_answer = !asked.is_empty();
            if !some_answer {
                asked.extend(all());
            }
            let waits = asked.into_iter().map(|(at, replica)| {
                let room = Arc::clone(&replica.room).acquire_owned();
                Box::pin(async move { (at, room.await) })
            });
            let ((at, room), ..) = select_all(waits).await;
            // It may have fallen silent meanwhile: that is why there was no room.
            if untried[at].answers() || !some_answer {
                return Some((untried.remove(at), room.ok()?));
            }
        }
    }
}

impl Replica {
    /// The one at an address that is called by a name.
    fn new(address: SocketAddr, name: &Arc<str>, secure: Option<&Secure>) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .expect("an address is an authority")
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = match secure {
            None => endpoint.connect_lazy(),
            Some(secure) => {
                let host = if name.contains(':') { format!("[{name}]") } else { name.to_string() };
                let origin = Uri::try_from(format!("https://{host}:{}", address.port()));
                let endpoint = endpoint.origin(origin.expect("a host and a port"));
                let connector = secure.clone().connector(address, Arc::clone(name));
                endpoint.connect_with_connector_lazy(connector)
            }
        };
        Self {
            address,
            channel,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            shunned_until: AtomicU64::new(0),
        }
    }

    fn answers(&self) -> bool {
        self.shunned_until.load(Ordering::Relaxed) == 0
    }

    /// Says to one call a second, and no more, that it may try a replica that did not
    /// answer: whether it is well again costs no other call its time.
    fn may_be_tried_again(&self, now: u64) -> bool {
        let shunned = self.shunned_until.load(Ordering::Relaxed);
        let next = now.saturating_add(SHUNNED);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        (1..=now).contains(&shunned)
            && self.shunned_until.compare_exchange(shunned, next, set, fetch).is_ok()
    }

    /// The whole answer: one that breaks off half-way is none.
    async fn call(&self, head: &request::Parts, message: Bytes) -> Result<Response<Body>, Failed> {
        match self.once(head, message.clone()).await {
            // The connection was old, and ended as the call was about to go out: that says
            // nothing of the replica, and the next one is made at once.
            Err(error) if was_not_sent(&*error) => self.once(head, message).await,
            answer => answer,
        }
    }

    async fn once(&self, head: &request::Parts, message: Bytes) -> Result<Response<Body>, Failed> {
        let body = Body::new(Full::new(message).map_err(|never: Infallible| match never {}));
        let request = Request::from_parts(head.clone(), body);
        let (head, body) = self.channel.clone().oneshot(request).await?.into_parts();
        let body = body.collect().await?;
        Ok(Response::from_parts(head, Body::new(body)))
    }
}

/// Why there is no answer.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Whether a call failed before anything of it was sent.
fn was_not_sent(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
