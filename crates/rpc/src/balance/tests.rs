use std::sync::atomic::AtomicUsize;

use tokio::net::TcpListener;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

use super::*;

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

async fn client(addresses: &[SocketAddr]) -> HealthClient<Transport> {
    let text: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    HealthClient::new(balanced(text.join(",").parse().expect("addresses")).await)
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
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (alive, _, _) = replica().await;
    let client = client(&[mute.local_addr().expect("an address"), alive]).await;
    let begin = Instant::now();
    for _ in 0..20 {
        check(&client).await.expect("an answer");
    }
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
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
    check(&HealthClient::new(balanced(name).await)).await.expect("an answer");
}

/// Names below `invalid` are never there.
#[tokio::test]
async fn a_name_that_is_gone_hides_no_other() {
    let (address, _, _) = replica().await;
    let text = format!("gone.invalid:{0},localhost:{0}", address.port());
    let names: Addresses = text.parse().expect("names");
    check(&HealthClient::new(balanced(names).await)).await.expect("an answer");
}
