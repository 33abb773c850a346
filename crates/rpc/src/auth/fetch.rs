//! Reads key sets over HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::platform_roots;

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// How long the whole of it may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Why a URL gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("there is no answer")]
    Request(#[from] hyper_util::client::legacy::Error),
    #[error("the answer is {0}, not 200 OK")]
    Status(StatusCode),
    /// Too large, or it broke off.
    #[error("the answer cannot be read")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("there is no whole answer within {0:?}")]
    Late(Duration),
}

/// Fetches small things. Follows no redirection, and keeps no connection: minutes
/// pass between two uses.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    within: Duration,
}

impl Fetcher {
    /// Trusts whom the platform trusts.
    pub(super) fn new() -> Self {
        Self::trusting(platform_roots(), WITHIN)
    }

    pub(super) fn trusting(roots: RootCertStore, within: Duration) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector.build());
        Self { client, within }
    }

    /// What a URL answers.
    pub(super) async fn fetch(&self, url: &Uri) -> Result<Vec<u8>, FetchError> {
        let answer = tokio::time::timeout(self.within, self.get(url)).await;
        answer.unwrap_or(Err(FetchError::Late(self.within)))
    }

    async fn get(&self, url: &Uri) -> Result<Vec<u8>, FetchError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url.clone();
        let accept = http::HeaderValue::from_static("application/json");
        request.headers_mut().insert(http::header::ACCEPT, accept);
        let answer = self.client.request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(FetchError::Answer)?.to_bytes().to_vec())
    }
}
