//! The layers and the server, through real gRPC.

mod ages;
mod connections;
mod drain;
mod floods;
mod harness;
mod input;
mod logs;
mod tls;

use std::time::Duration;

use harness::{Harness, reason, user_id};
use http::uri::PathAndQuery;
use parlance_proto::membership::v1::{GetUserRequest, UpsertUserRequest, User};
use parlance_proto::message::v1::{RoomCursor, SubscribeRequest};
use parlance_rpc::{RateLimit, Reason, Reflection, Shed, TenantRate};
use parlance_types::{TenantId, UserId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

#[tokio::test]
async fn a_handler_learns_who_calls() {
    let harness = Harness::start().await;
    let me = harness.users().get_user(harness.get("me")).await.expect("an answer");
    assert_eq!(user_id(me), "acme User(UserId(\"ann\"))");
}

/// Whatever arrives of a request is kept until the rest comes, also of nobody's.
#[tokio::test]
async fn a_request_that_needs_no_token_is_small() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

    let harness = Harness::start().await;
    let mut health = HealthClient::new(harness.channel());
    let check = |bytes| HealthCheckRequest { service: "x".repeat(bytes) };
    let unknown = health.check(check(4000)).await.expect_err("no such service");
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(reason(health.check(check(5000)).await), Some(Reason::MessageTooLarge));
    assert_eq!(reason(health.watch(check(5000)).await), Some(Reason::MessageTooLarge));
    let mut reflection = ServerReflectionClient::new(harness.channel());
    let asked = ServerReflectionRequest {
        host: "x".repeat(5000),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(asked)).await;
    let answer = answers.expect("a stream").into_inner().message().await;
    assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
}

/// B-172, B-183.
#[tokio::test]
async fn health_and_open_reflection_need_no_token_and_everything_else_does() {
    let harness = Harness::start().await;
    let mut health = HealthClient::new(harness.channel());
    let check = HealthCheckRequest { service: String::new() };
    assert!(health.check(check).await.is_ok());

    let request = GetUserRequest { user_id: "me".to_owned() };
    assert_eq!(reason(harness.users().get_user(request).await), Some(Reason::TokenMissing));
    let subscribed = harness.streams().subscribe(SubscribeRequest::default()).await;
    assert_eq!(reason(subscribed), Some(Reason::TokenMissing));
    let mut request = harness.get("me");
    request.metadata_mut().insert("authorization", "Bearer x.y.z".parse().expect("a value"));
    let status = harness.users().get_user(request).await.expect_err("refused");
    assert_eq!(Reason::of(&status), Some(Reason::TokenInvalid));
    assert_eq!(status.code(), Code::Unauthenticated);
}

/// As load balancers probe by default.
#[tokio::test]
async fn a_method_that_no_service_has_is_unimplemented_whoever_asks() {
    let harness = Harness::start().await;
    let mut grpc = tonic::client::Grpc::new(harness.channel());
    for path in ["/AWS.ALB/healthcheck", "/parlance.membership.v1.UserService/Guess", "/"] {
        grpc.ready().await.expect("a connection");
        let codec = tonic_prost::ProstCodec::<GetUserRequest, GetUserRequest>::default();
        let asked = Request::new(GetUserRequest::default());
        let refused = grpc.unary(asked, PathAndQuery::from_static(path), codec).await;
        assert_eq!(refused.expect_err("no such method").code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn an_internal_token_opens_internal_services_only_and_a_callers_token_public_ones_only() {
    let harness = Harness::start().await;
    let (tenant, bob) = (TenantId::new("acme"), UserId::new("bob"));
    let request = |user_id: &str| {
        let message = GetUserRequest { user_id: user_id.to_owned() };
        harness.internal.request(&tenant, Some(&bob), Duration::from_secs(5), message)
    };
    let mut users = harness.users();
    assert_eq!(reason(users.get_user(request("me")).await), Some(Reason::NotAllowed));
    assert!(
        user_id(users.get_user(request("internal")).await.expect("an answer"))
            .starts_with("acme Some(\"bob\")")
    );
    assert_eq!(reason(users.get_user(harness.get("internal")).await), Some(Reason::NotAllowed));
}

#[tokio::test]
async fn a_request_id_and_a_trace_pass_through_every_service_and_come_back() {
    let harness = Harness::start().await;
    // Set by telemetry in the program.
    opentelemetry::global::set_text_map_propagator(
        opentelemetry_sdk::propagation::TraceContextPropagator::new(),
    );
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for way in ["through", "spawned"] {
        let mut request = harness.get(way);
        let headers = request.metadata_mut();
        headers.insert("x-request-id", "abc-123".parse().expect("a value"));
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        headers.insert("traceparent", parent.parse().expect("a value"));
        let response = harness.users().get_user(request).await.expect("an answer");
        assert_eq!(response.metadata().get("x-request-id").expect("an id"), "abc-123");
        let seen = user_id(response);
        assert!(seen.starts_with("acme Some(\"ann\") abc-123 00-"), "{seen}");
        assert!(seen.contains(trace) && !seen.contains("00f067aa0ba902b7"), "{seen}");
    }

    // Made here when it is missing or of no use; also on errors.
    let mut bad = harness.get("internal");
    bad.metadata_mut().insert("x-request-id", "a b".parse().expect("a value"));
    let status = harness.users().get_user(bad).await.expect_err("refused");
    assert_eq!(status.metadata().get("x-request-id").expect("an id").len(), 32);
}

#[tokio::test]
async fn a_request_of_256_kib_is_taken_and_a_larger_one_is_too_large() {
    let harness = Harness::start().await;
    let request = |bytes: usize| {
        let user = User { name: "x".repeat(bytes), ..User::default() };
        harness.ann(UpsertUserRequest { user: Some(user) })
    };
    let mut users = harness.users();
    assert!(users.upsert_user(request(256 * 1024 - 16)).await.is_ok());
    let status = users.upsert_user(request(256 * 1024)).await.expect_err("refused");
    assert_eq!(Reason::of(&status), Some(Reason::MessageTooLarge));
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_panic_is_answered_as_an_internal_error_that_says_nothing_and_harms_no_one() {
    let harness = Harness::start().await;
    let mut users = harness.users();
    let status = users.get_user(harness.get("secret")).await.expect_err("a panic");
    assert_eq!(Reason::of(&status), Some(Reason::Internal));
    assert!(!status.message().contains("secret"));
    assert!(users.get_user(harness.get("me")).await.is_ok());

    let mut streams = harness.streams();
    let panics = SubscribeRequest { rooms: vec![RoomCursor::default()], ..Default::default() };
    let stream = streams.subscribe(harness.ann(panics)).await.expect("a stream");
    let frames: Vec<Result<_, Status>> = stream.into_inner().collect().await;
    assert_eq!(reason(frames.last().expect("the end").clone()), Some(Reason::Internal));
    assert!(users.get_user(harness.get("me")).await.is_ok());
}

#[tokio::test]
async fn a_stream_over_the_network_ends_when_its_deadline_passes() {
    let harness = Harness::start().await;
    // Written by hand, so that the client does not watch the time itself.
    let mut request = harness.ann(SubscribeRequest::default());
    request.metadata_mut().insert("grpc-timeout", "300m".parse().expect("a value"));
    let path = PathAndQuery::from_static("/parlance.message.v1.StreamService/Subscribe");
    let mut grpc = tonic::client::Grpc::new(harness.channel());
    grpc.ready().await.expect("a connection");
    let codec =
        tonic_prost::ProstCodec::<_, parlance_proto::message::v1::SubscribeResponse>::default();
    let stream = grpc.server_streaming(request, path, codec).await.expect("a stream");
    let frames: Vec<Result<_, Status>> = stream.into_inner().collect().await;
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[1].as_ref().expect_err("the end").code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_caller_that_calls_too_often_is_told_when_to_come_back() {
    let limit = RateLimit::new(2, 1);
    let harness = Harness::with(Duration::from_secs(1), |mut layers| {
        layers.rate = limit;
        layers
    })
    .await;
    let mut users = harness.users();
    assert!(users.get_user(harness.get("me")).await.is_ok());
    let status = users.get_user(harness.get("me")).await.expect_err("refused");
    assert_eq!(Reason::of(&status), Some(Reason::RateLimited));
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.get_details_quota_failure().is_some());
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    tokio::time::sleep(delay.expect("a delay")).await;
    assert!(users.get_user(harness.get("me")).await.is_ok());
}

#[tokio::test]
async fn a_tenant_that_calls_too_often_is_told_when_to_come_back_and_others_are_not() {
    let limit = TenantRate::alone(2, 1);
    let harness = Harness::with(Duration::from_secs(1), |mut layers| {
        layers.tenant_rate = limit;
        layers
    })
    .await;
    let mut users = harness.users();
    assert!(users.get_user(harness.get("me")).await.is_ok());
    let status = users.get_user(harness.get("me")).await.expect_err("refused");
    assert_eq!(Reason::of(&status), Some(Reason::TenantRateLimited));
    assert_eq!(status.code(), Code::ResourceExhausted);
    let quota = status.get_details_quota_failure().expect("a quota");
    assert_eq!(quota.violations[0].subject, "tenant:acme");
    // The suite itself is exempt, whomever it calls for.
    let message = GetUserRequest { user_id: "internal".to_owned() };
    let wait = Duration::from_secs(5);
    let ours = harness.internal.request(&TenantId::new("acme"), None, wait, message);
    assert!(users.get_user(ours).await.is_ok());
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    tokio::time::sleep(delay.expect("a delay")).await;
    assert!(users.get_user(harness.get("me")).await.is_ok());
}

#[tokio::test]
async fn what_is_too_much_at_once_is_refused_and_what_was_admitted_is_answered() {
    let harness = Harness::with(Duration::from_secs(1), |mut layers| {
        layers.shed = Some(Shed::new(1));
        layers
    })
    .await;
    let mut first = harness.users();
    let waiting = tokio::spawn({
        let request = harness.get("wait");
        async move { first.get_user(request).await }
    });
    harness.fake.entered.notified().await;
    let status = harness.users().get_user(harness.get("me")).await.expect_err("refused");
    assert_eq!(Reason::of(&status), Some(Reason::Overloaded));
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    // A probe is answered all the same.
    let check = HealthCheckRequest { service: String::new() };
    assert!(HealthClient::new(harness.channel()).check(check).await.is_ok());
    harness.fake.gate.add_permits(1);
    assert_eq!(user_id(waiting.await.expect("a task").expect("an answer")), "waited");
    assert!(harness.users().get_user(harness.get("me")).await.is_ok());
}

#[tokio::test]
async fn a_connection_that_does_not_speak_http2_is_closed() {
    let harness = Harness::start().await;
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/3.0"] {
        let mut stream = TcpStream::connect(harness.address).await.expect("a connection");
        stream.write_all(said).await.expect("written");
        // Closed or reset: nothing is answered.
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        assert!(read.is_err() || answer.is_empty(), "{answer:?}");
    }
    // Whoever begins with TLS is told that nobody speaks it here.
    let mut stream = TcpStream::connect(harness.address).await.expect("a connection");
    stream.write_all(b"\x16\x03\x01").await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, and its end");
    assert!(answer.ends_with("this port speaks plain text.\n"), "{answer}");
}

#[tokio::test]
async fn headers_of_more_than_24_kib_are_refused_and_the_longest_token_with_baggage_is_not() {
    let harness = Harness::start().await;
    let padded = |size: usize| {
        let mut request = harness.get("me");
        request.metadata_mut().insert("baggage", "x".repeat(size).parse().expect("a value"));
        request
    };
    assert!(harness.users().get_user(padded(25_000)).await.is_err());
    assert!(harness.users().get_user(padded(12 * 1024 + 8 * 1024)).await.is_ok());
}

#[tokio::test]
async fn reflection_is_for_whoever_it_is_meant_for() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

    for (reflection, stranger, known) in [
        (Reflection::Open, Code::Ok, Code::Ok),
        (Reflection::Token, Code::Unauthenticated, Code::Ok),
        (Reflection::Off, Code::Unauthenticated, Code::Unimplemented),
    ] {
        let harness = Harness::reflecting(reflection).await;
        let asked = || {
            tokio_stream::once(ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            })
        };
        let mut client = ServerReflectionClient::new(harness.channel());
        let mut code = async |request| {
            let answer = client.server_reflection_info(request).await;
            answer.map_or_else(|status| status.code(), |_| Code::Ok)
        };
        assert_eq!(code(Request::new(asked())).await, stranger, "{reflection:?}");
        assert_eq!(code(harness.ann(asked())).await, known, "{reflection:?}");
    }
}

#[tokio::test]
async fn reflection_tells_of_services_and_error_details_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};

    let harness = Harness::start().await;
    macro_rules! ask {
        ($version:ident, $request:expr) => {{
            use $version::server_reflection_request::MessageRequest;
            use $version::server_reflection_response::MessageResponse;
            let mut client =
                $version::server_reflection_client::ServerReflectionClient::new(harness.channel());
            let request = $version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some($request(MessageRequest::FileContainingSymbol)),
            };
            let answers = client.server_reflection_info(tokio_stream::once(request)).await;
            let answer = answers.expect("a stream").into_inner().next().await;
            let answer = answer.expect("an answer").expect("no error").message_response;
            matches!(answer, Some(MessageResponse::FileDescriptorResponse(_)))
        }};
    }
    for symbol in
        [harness::USERS, "google.rpc.ErrorInfo", "google.rpc.RetryInfo", "grpc.health.v1.Health"]
    {
        assert!(ask!(v1, |new: fn(String) -> _| new(symbol.to_owned())), "v1: {symbol}");
        assert!(ask!(v1alpha, |new: fn(String) -> _| new(symbol.to_owned())), "v1alpha: {symbol}");
    }
}
