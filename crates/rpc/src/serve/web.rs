//! Calls from browsers: gRPC-Web, over HTTP/1 too, from pages of origins that are allowed.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, Method, Request, Version, header};
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::answer::Call;
use super::connections::{Connections, LEFT, MAX_HEADERS, late, serve, tell_end};
use super::guard::CALL;
use crate::layers::App;
use crate::line::Line;

/// How long a browser remembers what a page may ask for.
const REMEMBER: Duration = Duration::from_hours(1);

/// How often is looked whether a client still takes what it is given.
const LOOK: Duration = Duration::from_secs(1);

/// What a page may read of an answer beyond its content.
const EXPOSED: [&str; 4] =
    ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"];

/// An origin of pages, `https://HOST`, or every one: `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// A text that is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be *, or an origin as in https://chat.example.org, without a path")]
pub struct InvalidOrigin;

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let text = text.trim();
        let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
        let good =
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ', '?']));
        let value = HeaderValue::from_str(text).map_err(|_| InvalidOrigin)?;
        if good || text == "*" { Ok(Self(value)) } else { Err(InvalidOrigin) }
    }
}

/// Who may call from a browser: pages of these origins; without any only those that come from
/// where the server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Web {
    pub origins: Vec<Origin>,
}

impl Web {
    /// The services, for browsers too.
    pub(super) fn open(&self, app: App) -> App {
        let layers = ServiceBuilder::new().layer(self.cors()).layer(GrpcWebLayer::new());
        let web = layers.service(app.clone());
        App::new(service_fn(move |request: Request<Body>| {
            let (app, web) = (app.clone(), web.clone());
            async move {
                if is_web(&request) {
                    web.oneshot(request).await
                } else {
                    app.oneshot(request).await
                }
            }
        }))
    }

    fn cors(&self) -> CorsLayer {
        let any = self.origins.iter().any(|origin| origin.0 == "*");
        let origins = self.origins.iter().map(|origin| origin.0.clone());
        CorsLayer::new()
            .allow_origin(if any { AllowOrigin::any() } else { AllowOrigin::list(origins) })
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED.map(HeaderName::from_static))
            .max_age(REMEMBER)
    }
}

/// Whether it may come from a browser; what speaks gRPC itself goes on as ever.
fn is_web(request: &Request<Body>) -> bool {
    let content = request.headers().get(header::CONTENT_TYPE);
    let of_web = |content: &HeaderValue| content.as_bytes().starts_with(b"application/grpc-web");
    request.version() != Version::HTTP_2
        || request.method() == Method::OPTIONS
        || content.is_some_and(of_web)
}

impl Connections {
    /// Serves one connection that speaks HTTP/1, a call at a time, until it closes.
    pub(super) async fn http1<S>(&self, stream: S, app: App, line: Arc<Line>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let served = serve(app, &line);
        let present = Arc::new(ArcSwap::from_pointee(Call::default()));
        let calls = Arc::clone(&present);
        let service = hyper::service::service_fn(move |request| {
            let call = Arc::new(Call::default());
            calls.store(Arc::clone(&call));
            CALL.scope(call, served.call(request))
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.handshake)
            .max_buf_size(usize::try_from(MAX_HEADERS).expect("small"));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let known_by = Instant::now() + self.limits.stranger;
        let aged = line.ages_at().unwrap_or(known_by);
        tokio::select! {
            ended = &mut connection => return tell_end(ended),
            () = late(known_by, || line.is_known()) => return,
            () = untaken(&present) => return,
            () = late(aged, || line.ages_at().is_none()) => {}
            () = line.end.cancelled() => return,
            () = self.close.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => tell_end(ended),
            () = late(aged + LEFT, || false) => {}
            () = untaken(&present) => {}
            () = line.end.cancelled() => {}
            () = self.cut.cancelled() => {}
        }
    }
}

/// Ends when the client does not take the answer of the present call in time. A call that nobody
/// else knows of is over.
async fn untaken(present: &ArcSwap<Call>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let call = present.load_full();
        let is_open = Arc::strong_count(&call) > 2;
        if is_open && call.overdue().is_some_and(|due| due <= Instant::now()) {
            tracing::debug!("a client took nothing of its answer");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_else() {
        for good in ["*", "https://chat.example.org", "http://localhost:8080"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in ["", "chat.example.org", "https://", "https://a/", "https://*.example.org"] {
            assert_eq!(bad.parse::<Origin>(), Err(InvalidOrigin), "{bad}");
        }
    }
}
