//! Input that is no request: refused as the contract says, not as the gRPC library does, and
//! always the caller's fault.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::reflection::takes_stream;
use crate::step::{Next, Step};
use crate::{Reason, Refusal, violation};

/// What stands in front of a message: whether it is compressed, and its length.
const HEADER: usize = 5;

/// What the library says of bytes that it cannot decode; then come the fields, the innermost
/// first.
const UNDECODABLE: &str = "failed to decode Protobuf message: ";

/// The step that refuses what is no request of gRPC: another method of HTTP or another type
/// of content, less or more than one message, bytes that are no message, and one that is too
/// large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadInput;

impl Step for BadInput {
    async fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        if let Some(refused) = not_grpc(&request) {
            return Ok(refused);
        }
        let request = if takes_stream(request.uri().path()) {
            request
        } else {
            request.map(|body| Body::new(OneMessage::new(body)))
        };
        let response = next.call(request).await?;
        // Input is read before the answer begins: the status is in the headers.
        if !response.headers().contains_key("grpc-status") {
            return Ok(response);
        }
        let status = Status::from_header_map(response.headers());
        match status.as_ref().and_then(refusal) {
            Some(refusal) => Ok(Status::from(refusal).into_http()),
            None => Ok(response),
        }
    }
}

/// The answer in HTTP to what does not claim to be a call.
fn not_grpc(request: &Request<Body>) -> Option<Response<Body>> {
    if request.method() != Method::POST {
        let refusal = violation(":method", "must be POST");
        let mut answer = Status::from(refusal).into_http();
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(answer);
    }
    if is_protobuf(request.headers()) {
        return None;
    }
    let refusal = violation("content-type", "must be application/grpc or application/grpc+proto");
    let mut answer = Status::from(refusal).into_http();
    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Some(answer)
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim_end();
    ["application/grpc", "application/grpc+proto"].iter().any(|it| kind.eq_ignore_ascii_case(it))
}

/// What the suite says of a message of a stream that cannot be read.
pub fn unreadable(status: Status) -> Status {
    match refusal(&status) {
        Some(refusal) => refusal.into(),
        None => status,
    }
}

/// What the suite says instead of the library; `None` for a status of ours.
fn refusal(status: &Status) -> Option<Refusal> {
    if !status.details().is_empty() {
        return None;
    }
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.contains("message length too large") => {
            Some(Refusal::new(Reason::MessageTooLarge, "the request is too large"))
        }
        Code::Internal | Code::Unimplemented | Code::Unknown => {
            if let Some(cause) = message.strip_prefix(UNDECODABLE) {
                return Some(undecodable(cause));
            }
            let no_request = message.starts_with("protocol error: received message with")
                || message.starts_with("Missing request message");
            no_request.then(not_one)
        }
        _ => None,
    }
}

/// Bytes that are no message: `User.name: UpsertUserRequest.user: invalid string value`.
fn undecodable(cause: &str) -> Refusal {
    let parts = cause.split(": ").map_while(|part| {
        let (message, field) = part.split_once('.')?;
        let named = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        (named(message) && named(field)).then_some(field)
    });
    let mut fields: Vec<&str> = parts.collect();
    if fields.is_empty() {
        return not_one();
    }
    fields.reverse();
    let rule = if cause.contains("invalid string value") {
        "must be UTF-8"
    } else {
        "must be encoded as the contract says"
    };
    violation(fields.join("."), rule)
}

fn not_one() -> Refusal {
    violation("request", "must be one encoded request of the method")
}

/// A body that is one message: refused when it ends early, or goes on.
struct OneMessage {
    body: Body,
    header: Vec<u8>,
    /// Bytes of the message that are to come; counts once the header is there.
    rest: usize,
}

impl OneMessage {
    fn new(body: Body) -> Self {
        Self { body, header: Vec::with_capacity(HEADER), rest: 0 }
    }

    /// Counts bytes that came. Whether they belong to the message.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let missing = HEADER - self.header.len();
        let (header, bytes) = bytes.split_at(missing.min(bytes.len()));
        self.header.extend_from_slice(header);
        if let (false, [_, length @ ..]) = (header.is_empty(), &self.header[..])
            && let Ok(length) = <[u8; 4]>::try_from(length)
        {
            self.rest = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        }
        let all = bytes.len() <= self.rest;
        self.rest = self.rest.saturating_sub(bytes.len());
        all
    }

    /// Whether there is a whole message.
    fn is_whole(&self) -> bool {
        self.header.len() == HEADER && self.rest == 0
    }
}

impl http_body::Body for OneMessage {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let is_one = match &frame {
            // Whatever ends a request in its middle, it is not a fault of the service.
            Some(Err(status)) if status.details().is_empty() => false,
            Some(Err(_)) => true,
            Some(Ok(frame)) => match frame.data_ref() {
                Some(bytes) => self.take(bytes),
                None => self.is_whole(),
            },
            None => self.is_whole(),
        };
        Poll::Ready(if is_one { frame } else { Some(Err(not_one().into())) })
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_field_that_cannot_be_decoded() {
        for (cause, said) in [
            (
                "GetUserRequest.user_id: invalid string value: data is not UTF-8 encoded",
                "user_id must be UTF-8",
            ),
            (
                "User.name: UpsertUserRequest.user: invalid string value: data is not UTF-8 encoded",
                "user.name must be UTF-8",
            ),
            (
                "GetUserRequest.user_id: invalid wire type: Varint (expected LengthDelimited)",
                "user_id must be encoded as the contract says",
            ),
            ("invalid varint", "request must be one encoded request of the method"),
        ] {
            let status = Status::internal(format!("{UNDECODABLE}{cause}"));
            let status = Status::from(refusal(&status).expect("a refusal"));
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, said));
        }
    }

    #[test]
    fn a_message_is_counted_however_it_is_cut() {
        let message = b"\0\0\0\0\x03abc";
        for size in 1..=message.len() {
            let mut one = OneMessage::new(Body::empty());
            assert!(!one.is_whole());
            for piece in message.chunks(size) {
                assert!(!one.is_whole() && one.take(piece), "{size}");
            }
            assert!(one.is_whole() && one.take(b"") && !one.take(b"x"), "{size}");
        }
        let mut empty = OneMessage::new(Body::empty());
        assert!(empty.take(b"\0\0\0\0") && !empty.is_whole());
        assert!(empty.take(b"\0") && empty.is_whole());
    }
}
