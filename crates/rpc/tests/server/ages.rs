//! Connections that get old, and those of browsers.

use std::time::Duration;

use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::message::v1::SubscribeRequest;
use parlance_rpc::{ConnectionLimits, Tasks, Tls, TlsFiles, Web, balanced};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;

use crate::harness::{Harness, user_id};

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_old_connection_goes_without_a_call_that_fails_and_its_streams_are_told() {
    let age = Duration::from_millis(500);
    let harness = Harness::limited(ConnectionLimits { age, ..ConnectionLimits::default() }).await;
    let mut streams = harness.streams();
    let stream = streams.subscribe(harness.ann(SubscribeRequest::default())).await;
    let mut stream = stream.expect("a stream").into_inner();
    assert!(stream.next().await.expect("a frame").is_ok());
    // As services call each other, for some ages; the stream here ends only when it is told to.
    let address = harness.address.to_string().parse().expect("an address");
    let (tls, tasks) = (Tls::load(TlsFiles::default()).expect("no files"), Tasks::default());
    let transport = balanced(address, &tls, &tasks).await;
    let until = tokio::time::Instant::now() + 4 * age;
    let mut calls = 0;
    while tokio::time::Instant::now() < until {
        let me = UserServiceClient::new(transport.clone()).get_user(harness.get("leaves")).await;
        assert!(!user_id(me.expect("no call fails")).is_empty());
        calls += 1;
    }
    assert!(calls > 20, "{calls} calls");
    // Each call was told of the end of a connection that was not old yet: there were several.
    let leaves = harness.fake.leaves.lock().expect("no panic").clone();
    let (first, last) = (leaves.iter().min().expect("one"), leaves.iter().max().expect("one"));
    assert!(*last - *first > 2 * age, "{:?}", *last - *first);
    let more = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
    assert!(more.is_err(), "a stream is not cut");
}

/// What a browser says, and what it is answered.
async fn said(harness: &Harness, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(harness.address).await.expect("a connection");
    let length = body.len();
    let head = format!("{head}host: here\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(body).await.expect("written");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _closed = read.expect("in time");
    let end =
        answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    (head, answer[end..].to_vec())
}

#[tokio::test]
async fn browsers_call_over_http1_and_only_where_they_may() {
    let origins = vec!["https://chat.example.org".parse().expect("an origin")];
    let harness = Harness::open_to(None, Some(Web { origins })).await;
    let path = "/parlance.membership.v1.UserService/GetUser HTTP/1.1\r\n";
    let asks = |origin: &str| {
        format!(
            "OPTIONS {path}origin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type,x-grpc-web\r\n"
        )
    };
    let (head, _) = said(&harness, &asks("https://chat.example.org"), b"").await;
    assert!(head.contains("access-control-allow-origin: https://chat.example.org"), "{head}");
    assert!(head.contains("authorization"), "{head}");
    let (head, _) = said(&harness, &asks("https://evil.example.org"), b"").await;
    assert!(!head.contains("access-control-allow-origin"), "{head}");

    let call = |token: &str| {
        format!(
            "POST {path}origin: https://chat.example.org\r\n\
             content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n{token}"
        )
    };
    // GetUserRequest { user_id: "me" }, as a frame.
    let me = [0, 0, 0, 0, 4, 10, 2, b'm', b'e'];
    let request = harness.get("me");
    let token = request.metadata().get("authorization").expect("a token").to_str().expect("text");
    let (head, body) = said(&harness, &call(&format!("authorization: {token}\r\n")), &me).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(body.contains("acme User") && body.contains("grpc-status:0"), "{body:?}");
    let (head, body) = said(&harness, &call(""), &me).await;
    let body = String::from_utf8_lossy(&body).to_lowercase();
    assert!(
        (head + &body).contains("grpc-status: 16") || body.contains("grpc-status:16"),
        "{body}"
    );
    // What is no gRPC-Web is nothing here, and one that says its headers for ever is sent away.
    let (head, _) = said(&harness, "GET / HTTP/1.1\r\n", b"").await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n", "x".repeat(40_000));
    let (head, _) = said(&harness, &long, b"").await;
    assert!(!head.starts_with("http/1.1 200"), "{head}");
}
