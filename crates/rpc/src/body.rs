//! Ends of response bodies.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tonic::Status;

/// The last frame of a response that fails after it has begun.
pub(crate) fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.clear();
        let code = http::HeaderValue::from(status.code() as i32);
        trailers.insert("grpc-status", code);
    }
    Frame::trailers(trailers)
}
