//! Bytes that are no request.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use parlance_rpc::Reason;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Service as _, ServiceExt as _};

use crate::harness::Harness;
use crate::logs::{catch, finished};

const GET_USER: &str = "/parlance.membership.v1.UserService/GetUser";
const UPSERT_USER: &str = "/parlance.membership.v1.UserService/UpsertUser";

/// A whole message: what stands in front of it, and its bytes.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// Sends these bytes, as ann does.
async fn post(harness: &Harness, path: &str, content_type: &str, body: Vec<u8>) -> Response<Body> {
    let uri = format!("http://{}{path}", harness.address);
    send(harness, Request::post(uri).header("content-type", content_type), body).await
}

async fn send(harness: &Harness, request: http::request::Builder, body: Vec<u8>) -> Response<Body> {
    let token = harness.ann(()).metadata().get("authorization").cloned().expect("a token");
    let token = token.to_str().expect("text").to_owned();
    let body = Body::new(http_body_util::Full::new(Bytes::from(body)));
    let request = request.header("authorization", token).body(body).expect("a request");
    let mut channel = harness.channel();
    channel.ready().await.expect("a connection").call(request).await.expect("an answer")
}

fn status(headers: &HeaderMap) -> Status {
    Status::from_header_map(headers).expect("a status")
}

/// The field that a refusal names, and what it must be.
fn field(status: &Status) -> (String, String) {
    assert_eq!(
        (status.code(), Reason::of(status)),
        (Code::InvalidArgument, Some(Reason::InvalidField))
    );
    let violations = status.get_details_bad_request().expect("a field").field_violations;
    (violations[0].field.clone(), violations[0].description.clone())
}

#[tokio::test]
async fn a_field_that_cannot_be_decoded_is_named() {
    let harness = Harness::start().await;
    let (utf8, contract) = ("must be UTF-8", "must be encoded as the contract says");
    for (path, message, named, rule) in [
        (GET_USER, &b"\x0a\x02\xff\xff"[..], "user_id", utf8),
        (GET_USER, b"\x08\x01", "user_id", contract),
        (GET_USER, b"\x0a\x7f", "user_id", contract),
        (UPSERT_USER, b"\x0a\x03\x12\x01\xff", "user.name", utf8),
        (UPSERT_USER, b"\x0a\x06\x22\x04\x0a\x02\xff\xff", "user.metadata", utf8),
        (GET_USER, b"\xff\xff", "request", "must be one encoded request of the method"),
    ] {
        let answer = post(&harness, path, "application/grpc", framed(message)).await;
        let refused = field(&status(answer.headers()));
        assert_eq!(refused, (named.to_owned(), rule.to_owned()), "{message:?}");
    }
}

#[tokio::test]
async fn less_or_more_than_one_message_is_the_callers_fault_and_no_error_is_logged() {
    let (mut lines, _guard) = catch();
    let harness = Harness::start().await;
    let whole = framed(b"\x0a\x02me");
    let cut = |at: usize| whole[..at].to_vec();
    let behind = |rest: &[u8]| [&whole, rest].concat();
    for body in [
        Vec::new(),
        cut(1),
        cut(5),
        cut(whole.len() - 1),
        behind(b"x"),
        behind(b"more than a head"),
        behind(&whole),
        [&[7], &whole[1..]].concat(),
        [&[1], &whole[1..]].concat(),
    ] {
        let sent = format!("{body:?}");
        let answer = post(&harness, GET_USER, "application/grpc", body).await;
        assert_eq!(field(&status(answer.headers())).0, "request", "{sent}");
        let (line, all) = finished(&mut lines).await;
        assert!(line.contains("INFO") && !all.contains(" ERROR "), "{sent}: {all}");
    }
    let answer = post(&harness, GET_USER, "application/grpc", whole).await;
    assert_eq!((answer.status(), answer.headers().get("grpc-status")), (StatusCode::OK, None));
}

#[tokio::test]
async fn only_posts_of_grpc_are_executed() {
    let harness = Harness::start().await;
    let whole = || framed(b"\x0a\x02me");
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
        let answer = post(&harness, GET_USER, kind, whole()).await;
        assert_eq!((answer.status(), answer.headers().get("grpc-status")), (StatusCode::OK, None));
    }
    for kind in [
        "text/plain",
        "application/grpc-web",
        "application/grpc-web+proto",
        "",
        "application/grpc+json",
    ] {
        let answer = post(&harness, GET_USER, kind, whole()).await;
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        assert_eq!(field(&status(answer.headers())).0, "content-type");
    }
    let uri = format!("http://{}{GET_USER}", harness.address);
    let get = Request::builder().method(Method::GET).uri(uri);
    let answer = send(&harness, get.header("content-type", "application/grpc"), whole()).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "POST");
}

#[tokio::test]
async fn a_list_of_a_hundred_thousand_empty_entries_is_too_large_however_short() {
    let harness = Harness::start().await;
    let path = "/parlance.membership.v1.UserService/BatchGetUsers";
    let ids = |count| framed(&b"\x0a\x00".repeat(count));
    let answer = post(&harness, path, "application/grpc", ids(100_000)).await;
    let refused = status(answer.headers());
    assert_eq!(Reason::of(&refused), Some(Reason::MessageTooLarge));
    let answer = post(&harness, path, "application/grpc", ids(20_000)).await;
    assert_eq!(answer.headers().get("grpc-status"), None);
}
