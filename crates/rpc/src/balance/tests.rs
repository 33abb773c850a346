use std::future::ready;
use std::sync::atomic::AtomicUsize;

use futures::future::join_all;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;
use tower::Layer as _;

use super::*;
use crate::TlsFiles;
use crate::step::{Last, Next, Step, StepLayer, Steps};

/// A server of the health service; gone when its task is aborted.
async fn replica() -> (SocketAddr, tokio::task::JoinHandle<()>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let health = tonic_health::server::HealthService::from_health_reporter(HealthReporter::new());
    let counting = move |request: tonic::Request<()>| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(request)
    };
    let server = tonic::service::interceptor::InterceptedService::new(
        tonic_health::pb::health_server::HealthServer::new(health),
        counting,
    );
    let task = tokio::spawn(async move {
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let serving = tonic::transport::Server::builder().add_service(server);
        serving.serve_with_incoming(incoming).await.expect("a server");
    });
    (address, task, calls)
}

/// A free port that nobody listens on.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

/// A server that takes as many calls at once as those of the suite, and its time over each.
/// It is reached through memory, so that no time passes but the test's own.
async fn slow_replica(takes: Duration) -> (Replica, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let slow = StepLayer(Slow { takes, calls: Arc::clone(&calls) });
    let slow = tower::layer::layer_fn(move |routes| Steps::new(slow.layer(Last(routes))));
    let health = tonic_health::server::HealthService::from_health_reporter(HealthReporter::new());
    let server = tonic_health::pb::health_server::HealthServer::new(health);
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(far));
        let builder = tonic::transport::Server::builder().max_concurrent_streams(128);
        let serving = builder.layer(slow).add_service(server);
        serving.serve_with_incoming(incoming).await.expect("a server");
    });
    let mut near = Some(TokioIo::new(near));
    let connect =
        service_fn(move |_| ready(near.take().ok_or_else(|| std::io::Error::other("it broke"))));
    let endpoint = Endpoint::from_static("http://replica");
    let channel = endpoint.connect_with_connector(connect).await.expect("a connection");
    (Replica { channel, ..Replica::new(([127, 0, 0, 1], 1).into(), &"a".into(), None) }, calls)
}

#[derive(Clone)]
struct Slow {
    takes: Duration,
    calls: Arc<AtomicUsize>,
}

impl Step for Slow {
    async fn run<S: Next>(
        &self,
        request: Request<Body>,
        next: &S,
    ) -> Result<Response<Body>, S::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.takes).await;
        next.call(request).await
    }
}

/// A port that accepts and says nothing.
async fn mute() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    (listener.local_addr().expect("an address"), listener)
}

/// Addresses that are their own names.
fn found(addresses: &[SocketAddr]) -> Found {
    addresses.iter().map(|address| (*address, address.ip().to_string().into())).collect()
}

fn replicas(addresses: &[SocketAddr]) -> Arc<Replicas> {
    let replicas = Arc::new(Replicas::default());
    replicas.become_those(&found(addresses));
    replicas
}

async fn client(addresses: &[SocketAddr]) -> HealthClient<Transport> {
    let text: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    plain(text.join(",").parse().expect("addresses")).await
}

/// A client of what is there, without TLS.
async fn plain(addresses: Addresses) -> HealthClient<Transport> {
    let tls = Tls::load(TlsFiles::default()).expect("no files");
    HealthClient::new(balanced(addresses, &tls, &Tasks::default()).await)
}

async fn check(client: &HealthClient<Transport>) -> Result<(), Status> {
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_secs(4));
    client.clone().check(request).await.map(drop)
}

#[tokio::test]
async fn calls_take_turns() {
    let (one, _, first) = replica().await;
    let (two, _, second) = replica().await;
    let client = client(&[one, two]).await;
    for _ in 0..10 {
        check(&client).await.expect("an answer");
    }
    assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (5, 5));
}

#[tokio::test]
async fn a_dead_replica_costs_no_call() {
    let (alive, _, _) = replica().await;
    let client = client(&[nobody().await, alive]).await;
    for _ in 0..50 {
        check(&client).await.expect("an answer");
    }
}

#[tokio::test]
async fn a_replica_that_accepts_and_says_nothing_costs_half_of_the_time_and_only_once() {
    let (mute, _listens) = mute().await;
    let (alive, _, _) = replica().await;
    let client = client(&[mute, alive]).await;
    let begin = Instant::now();
    for _ in 0..20 {
        check(&client).await.expect("an answer");
    }
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn one_call_finds_out_whether_a_silent_replica_is_well_and_costs_no_other_its_time() {
    let (mute, _listens) = mute().await;
    let (alive, _, _) = replica().await;
    let replicas = replicas(&[mute, alive]);
    let client = HealthClient::new(transport(Arc::clone(&replicas)));
    // It was shunned, and is no more.
    while replicas.now() < 2 {
        tokio::task::yield_now().await;
    }
    let known = replicas.known.load();
    let silent = known.iter().find(|replica| replica.address == mute).expect("known");
    silent.shunned_until.store(1, Ordering::Relaxed);
    let begin = Instant::now();
    let call = || async {
        check(&client).await.expect("an answer");
        begin.elapsed()
    };
    let took = join_all((0..20).map(|_| call())).await;
    let slow = took.iter().filter(|took| **took > Duration::from_secs(1)).count();
    assert_eq!(slow, 1, "{took:?}");
}

#[tokio::test]
async fn a_replica_that_is_well_again_is_asked_again() {
    let (one, _, first) = replica().await;
    let (two, _, _) = replica().await;
    let replicas = replicas(&[one, two]);
    let client = HealthClient::new(transport(Arc::clone(&replicas)));
    while replicas.now() < 2 {
        tokio::task::yield_now().await;
    }
    let known = replicas.known.load();
    let back = known.iter().find(|replica| replica.address == one).expect("known");
    back.shunned_until.store(1, Ordering::Relaxed);
    for _ in 0..10 {
        check(&client).await.expect("an answer");
    }
    assert!(back.answers() && first.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn however_many_are_dead_or_silent_the_one_that_lives_is_found() {
    let (alive, _, _) = replica().await;
    let (silent, dead) = (vec![mute().await, mute().await, mute().await], nobody().await);
    let mut addresses: Vec<_> = silent.iter().map(|(address, _)| *address).collect();
    addresses.extend([dead, nobody().await, alive]);
    let from_each = (0..addresses.len()).map(|turn| {
        let replicas = replicas(&addresses);
        replicas.turn.store(turn, Ordering::Relaxed);
        let client = HealthClient::new(transport(replicas));
        async move { check(&client).await }
    });
    for answer in join_all(from_each).await {
        answer.expect("an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_replicas_take_at_once_wait_and_nobody_is_taken_for_silent() {
    let takes = Duration::from_millis(500);
    let ((one, first), (two, second)) = (slow_replica(takes).await, slow_replica(takes).await);
    let replicas = Arc::new(Replicas::default());
    replicas.known.store(Arc::new(vec![Arc::new(one), Arc::new(two)]));
    let client = HealthClient::new(transport(Arc::clone(&replicas)));
    // Five times what both take: more than half of the time of a call.
    let (calls, began) = (1000, Instant::now());
    for answer in join_all((0..calls).map(|_| check(&client))).await {
        answer.expect("an answer");
    }
    assert!(began.elapsed() >= 5 * takes, "{:?}", began.elapsed());
    assert_eq!(first.load(Ordering::SeqCst) + second.load(Ordering::SeqCst), calls, "asked once");
    assert!(replicas.known.load().iter().all(|replica| replica.answers()));
}

#[tokio::test]
async fn nobody_there_is_unavailable_at_once() {
    let client = client(&[nobody().await, nobody().await]).await;
    let begin = Instant::now();
    let refused = check(&client).await.expect_err("nobody");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_name_stands_for_its_addresses() {
    let (address, _, _) = replica().await;
    let name: Addresses = format!("localhost:{}", address.port()).parse().expect("a name");
    check(&plain(name).await).await.expect("an answer");
}

/// The name leads elsewhere from one moment to the next, and its old addresses refuse.
#[tokio::test]
async fn a_name_whose_addresses_changed_is_looked_up_when_they_refuse() {
    let old = found(&[nobody().await, nobody().await]);
    let present = Arc::new(std::sync::Mutex::new(old));
    let (tasks, looks) = (Tasks::default(), Arc::new(AtomicUsize::new(0)));
    let replicas = Arc::new(Replicas { names: Some(Names::default()), ..Replicas::default() });
    let (there, counted) = (Arc::clone(&present), Arc::clone(&looks));
    let look = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        ready(there.lock().expect("addresses").clone())
    };
    replicas.look_up(look, &tasks).await;
    // The task looks at once, and then in a while.
    while looks.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let client = HealthClient::new(transport(Arc::clone(&replicas)));
    let (address, _server, calls) = replica().await;
    *present.lock().expect("addresses") = found(&[address]);
    let (began, before) = (Instant::now(), looks.load(Ordering::SeqCst));
    for answer in join_all((0..50).map(|_| check(&client))).await {
        answer.expect("an answer");
    }
    assert!(began.elapsed() < LOOKUP_EVERY / 2, "{:?}", began.elapsed());
    assert!(calls.load(Ordering::SeqCst) >= 50);
    let most = 2 + began.elapsed().as_millis() / LOOKUP_PAUSE.as_millis();
    let looks = looks.load(Ordering::SeqCst) - before;
    assert!(u128::try_from(looks).expect("small") <= most, "{looks} looks for 50 calls");
    tasks.close().await;
}

/// Names below `invalid` are never there.
#[tokio::test]
async fn a_name_that_is_gone_hides_no_other() {
    let (address, _, _) = replica().await;
    let text = format!("gone.invalid:{0},localhost:{0}", address.port());
    let names: Addresses = text.parse().expect("names");
    check(&plain(names).await).await.expect("an answer");
}
