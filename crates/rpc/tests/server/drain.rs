//! Health, and how a server stops.

use std::time::Duration;

use parlance_proto::message::v1::SubscribeRequest;
use parlance_rpc::ConnectionLimits;
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Harness, USERS, user_id};

async fn serving(harness: &Harness, service: &str) -> ServingStatus {
    let mut health = HealthClient::new(harness.channel());
    let request = HealthCheckRequest { service: service.to_owned() };
    health.check(request).await.expect("an answer").into_inner().status()
}

#[tokio::test]
async fn a_server_is_not_serving_until_it_is_told_to_be_ready() {
    let harness = Harness::start().await;
    for service in ["", USERS] {
        assert_eq!(serving(&harness, service).await, ServingStatus::NotServing, "{service:?}");
    }
    harness.health.set_all(true).await;
    for service in ["", USERS] {
        assert_eq!(serving(&harness, service).await, ServingStatus::Serving, "{service:?}");
    }
    harness.health.set(USERS, false).await;
    assert_eq!(serving(&harness, USERS).await, ServingStatus::NotServing);
    assert_eq!(serving(&harness, "").await, ServingStatus::Serving);
}

#[tokio::test]
async fn a_draining_server_says_so_ends_streams_answers_requests_and_then_closes() {
    let harness = Harness::start().await;
    harness.health.set_all(true).await;
    let watch = HealthCheckRequest { service: USERS.to_owned() };
    let mut health = HealthClient::new(harness.channel());
    let mut health = health.watch(watch).await.expect("a stream").into_inner();
    let mut status = async || Some(health.next().await?.expect("no error").status());
    assert_eq!(status().await, Some(ServingStatus::Serving));
    let stream = harness.streams().subscribe(harness.ann(SubscribeRequest::default())).await;
    let mut stream = stream.expect("a stream").into_inner();
    assert!(stream.next().await.expect("a frame").is_ok());
    let (mut users, request) = (harness.users(), harness.get("wait"));
    let waiting = tokio::spawn(async move { users.get_user(request).await });
    harness.fake.entered.notified().await;

    harness.shutdown.cancel();
    assert_eq!(status().await, Some(ServingStatus::NotServing));
    // The last frame of the stream, then its end, with OK.
    assert!(stream.next().await.expect("a frame").is_ok());
    assert!(stream.next().await.is_none());
    // One request is not answered yet: the server still takes others, but not for ready.
    harness.health.set_all(true).await;
    assert_eq!(serving(&harness, "").await, ServingStatus::NotServing);
    assert!(harness.users().get_user(harness.get("me")).await.is_ok());

    harness.fake.gate.add_permits(1);
    assert_eq!(user_id(waiting.await.expect("a task").expect("an answer")), "waited");
    assert_eq!(status().await, None);
    harness.served.await.expect("a task").expect("served");
    assert!(TcpStream::connect(harness.address).await.is_err());
}

#[tokio::test]
async fn a_draining_server_cuts_what_does_not_end_within_the_bound() {
    let drain = Duration::from_millis(400);
    let harness = Harness::with(drain, |layers| layers).await;
    let request = SubscribeRequest { all_my_rooms: true, ..Default::default() };
    let stream = harness.streams().subscribe(harness.ann(request)).await;
    let mut stream = stream.expect("a stream").into_inner();
    assert!(stream.next().await.expect("a frame").is_ok());
    let silent = TcpStream::connect(harness.address).await.expect("a connection");

    let began = tokio::time::Instant::now();
    harness.shutdown.cancel();
    harness.served.await.expect("a task").expect("served");
    assert!(began.elapsed() >= drain);
    assert!(began.elapsed() < drain + Duration::from_secs(5));
    assert!(stream.next().await.is_none_or(|frame| frame.is_err()));
    drop(silent);
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_up_the_end() {
    let handshake = Duration::from_hours(1);
    let limits = ConnectionLimits { handshake, ..ConnectionLimits::default() };
    let harness = Harness::limited(limits).await;
    let silent = TcpStream::connect(harness.address).await.expect("a connection");
    // The server has seen it once it answers on a later one.
    assert!(harness.users().get_user(harness.get("me")).await.is_ok());
    let began = tokio::time::Instant::now();
    harness.shutdown.cancel();
    harness.served.await.expect("a task").expect("served");
    assert!(began.elapsed() < Duration::from_secs(10), "it is not a matter of the bound");
    drop(silent);
}
