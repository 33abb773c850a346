//! Key sets at URLs: rotation, outages, and answers that are of no use.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tower::{ServiceBuilder, ServiceExt as _};

use super::*;
use crate::Deadlines;
use crate::step::{Last, StepLayer, Steps};

/// For what never comes.
const NEVER: Duration = Duration::from_hours(1);

/// Reads again only when it is asked to.
const CALM: Pace = Pace { files: NEVER, urls: NEVER, again: NEVER, unknown: MINUTE };
const MINUTE: Duration = Duration::from_mins(1);

/// What an issuer answers.
#[derive(Clone)]
enum Answer {
    Body(StatusCode, Bytes),
    Redirect(String),
    /// Nothing, until it is told something else.
    Silence,
}

/// An issuer on a port of its own; gone when it is dropped.
struct Issuer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

struct Shared {
    answer: Mutex<Answer>,
    changed: Notify,
    asked: Mutex<usize>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Issuer {
    async fn start(answer: Answer) -> Self {
        Self::start_at("127.0.0.1:0", answer, None).await
    }

    async fn start_at(address: &str, answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (answer, asked) = (Mutex::new(answer), Mutex::new(0));
        let shared = Arc::new(Shared { answer, asked, changed: Notify::new() });
        let of_tasks = Arc::clone(&shared);
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&of_tasks), tls.clone());
                open.spawn(async move {
                    match tls {
                        None => shared.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                shared.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, shared, serving }
    }

    fn url(&self) -> String {
        format!("jwks:http://{}/keys", self.address)
    }

    fn answers(&self, answer: Answer) {
        *self.shared.answer.lock().expect("an answer") = answer;
        self.shared.changed.notify_waiters();
    }

    fn asked(&self) -> usize {
        *self.shared.asked.lock().expect("a count")
    }

    /// Waits until it was asked so often.
    async fn was_asked(&self, times: usize) {
        while self.asked() < times {
            tokio::task::yield_now().await;
        }
    }
}

impl Shared {
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|_| async {
            *self.asked.lock().expect("a count") += 1;
            Ok::<_, Infallible>(self.answer().await)
        });
        // The other side may go away.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self) -> http::Response<Full<Bytes>> {
        loop {
            let changed = self.changed.notified();
            let answer = self.answer.lock().expect("an answer").clone();
            let mut response = http::Response::new(Full::default());
            match answer {
                Answer::Body(status, body) => {
                    *response.status_mut() = status;
                    *response.body_mut() = Full::new(body);
                }
                Answer::Redirect(to) => {
                    *response.status_mut() = StatusCode::FOUND;
                    response.headers_mut().insert("location", to.parse().expect("a value"));
                }
                Answer::Silence => {
                    changed.await;
                    continue;
                }
            }
            return response;
        }
    }
}

/// A key of an issuer.
struct Signer {
    pair: Pair,
    id: &'static str,
    jwk: Value,
}

fn signer(id: &'static str) -> Signer {
    let (pair, raw) = eddsa();
    let x = URL_SAFE_NO_PAD.encode(raw);
    Signer { pair, id, jwk: json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id }) }
}

impl Signer {
    /// A token that outlives every test.
    fn token(&self) -> String {
        let day = 86_400 * SECOND;
        let times = json!({ "nbf": (NOW - day) / SECOND, "exp": (NOW + day) / SECOND });
        self.pair.token(Some(self.id), &times)
    }
}

fn set(signers: &[&Signer]) -> Answer {
    let keys: Vec<_> = signers.iter().map(|signer| &signer.jwk).collect();
    Answer::Body(StatusCode::OK, json!({ "keys": keys }).to_string().into())
}

/// Verifies with the keys of `sources`.
struct Gate {
    auth: Auth,
    clock: Arc<ManualClock>,
}

impl Gate {
    async fn open(sources: &[&str], pace: Pace) -> Self {
        Self::fetching(sources, pace, RootCertStore::empty(), Duration::from_secs(5)).await
    }

    async fn fetching(
        sources: &[&str],
        pace: Pace,
        roots: RootCertStore,
        within: Duration,
    ) -> Self {
        let sources = sources.iter().map(|source| source.parse().expect("a source")).collect();
        let clock = Arc::new(ManualClock::at(NOW));
        let config = AuthConfig::new(sources, InternalKey::random());
        let fetcher = Some(Fetcher::trusting(roots, within));
        let time = Arc::<ManualClock>::clone(&clock);
        let auth = Auth::fetching(config, time, fetcher, pace).await.expect("keys");
        Self { auth, clock }
    }

    /// As a request would.
    async fn verify(&self, token: &str) -> Result<(), Reason> {
        let caller = self.auth.learn(&headers(token)).await;
        caller.map(drop).map_err(|refusal| refusal.reason())
    }

    /// A minute later.
    fn later(&self) {
        self.clock.advance(60 * SECOND);
    }
}

#[tokio::test]
async fn a_new_key_costs_its_first_caller_nothing_and_an_old_one_ends_with_its_removal() {
    let (old, new, next) = (signer("old"), signer("new"), signer("next"));
    let issuer = Issuer::start(set(&[&old])).await;
    let gate = Gate::open(&[&issuer.url()], CALM).await;
    assert_eq!(gate.verify(&old.token()).await, Ok(()));

    issuer.answers(set(&[&old, &new]));
    assert_eq!(gate.verify(&new.token()).await, Ok(()));
    assert_eq!(gate.verify(&old.token()).await, Ok(()));

    issuer.answers(set(&[&new, &next]));
    gate.later();
    assert_eq!(gate.verify(&old.token()).await, Ok(()), "nobody has looked yet");
    assert_eq!(gate.verify(&next.token()).await, Ok(()));
    assert_eq!(gate.verify(&old.token()).await, Err(Reason::TokenInvalid));
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn keys_are_read_again_now_and_then_without_anyone_asking() {
    let (old, new) = (signer("old"), signer("new"));
    let issuer = Issuer::start(set(&[&old])).await;
    let often = Pace { urls: Duration::from_millis(5), ..CALM };
    let gate = Gate::open(&[&issuer.url()], often).await;
    let stop = CancellationToken::new();
    let reload = tokio::spawn(gate.auth.clone().reload(stop.clone()));

    issuer.answers(set(&[&new]));
    // Without waiting for keys: what is known is known by itself.
    while gate.auth.verify(&headers(&new.token())).is_err() {
        tokio::task::yield_now().await;
    }
    assert!(gate.auth.verify(&headers(&old.token())).is_err());
    stop.cancel();
    reload.await.expect("ended");
}

#[tokio::test]
async fn a_storm_of_unknown_keys_asks_the_issuer_once_a_minute() {
    let (known, new) = (signer("known"), signer("new"));
    let issuer = Issuer::start(set(&[&known])).await;
    let gate = Gate::open(&[&issuer.url()], CALM).await;
    assert_eq!(issuer.asked(), 1);
    for minute in 2..5 {
        let storm: Vec<_> = (0..200).map(|_| signer("nobody").token()).collect();
        let answers = storm.iter().map(|token| gate.verify(token));
        let answers = futures::future::join_all(answers).await;
        assert!(answers.iter().all(|answer| *answer == Err(Reason::TokenInvalid)));
        assert_eq!(issuer.asked(), minute);
        gate.later();
    }
    issuer.answers(set(&[&known, &new]));
    assert_eq!(gate.verify(&new.token()).await, Ok(()));
    // A clock that was set back is no reason to wait for it.
    gate.clock.advance(-3600 * SECOND);
    assert_eq!(gate.verify(&signer("nobody").token()).await, Err(Reason::TokenInvalid));
    assert_eq!(issuer.asked(), 6);
}

#[tokio::test]
async fn what_no_key_set_could_verify_asks_nobody() {
    let known = signer("known");
    let issuer = Issuer::start(set(&[&known])).await;
    let gate = Gate::open(&[&issuer.url()], CALM).await;
    let forged = Signer { pair: signer("x").pair, ..signer("known") };
    for bad in ["x.y.z".to_owned(), hs256().token(Some("new"), &json!({})), forged.token()] {
        assert_eq!(gate.verify(&bad).await, Err(Reason::TokenInvalid));
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn what_an_issuer_answers_that_is_of_no_use_leaves_the_keys_as_they_are() {
    let (known, new) = (signer("known"), signer("new"));
    let elsewhere = Issuer::start(set(&[&known, &new])).await;
    let issuer = Issuer::start(set(&[&known])).await;
    let patience = Duration::from_millis(100);
    let source = issuer.url();
    let gate = Gate::fetching(&[&source], CALM, RootCertStore::empty(), patience).await;
    let Answer::Body(_, good) = set(&[&known, &new]) else { unreachable!() };
    let padding = " ".repeat(256 * 1024);
    for answer in [
        Answer::Body(StatusCode::INTERNAL_SERVER_ERROR, good.clone()),
        Answer::Body(StatusCode::CREATED, good.clone()),
        Answer::Body(StatusCode::OK, "no keys".into()),
        Answer::Body(StatusCode::OK, r#"{"keys":[]}"#.into()),
        Answer::Body(StatusCode::OK, [good.as_ref(), padding.as_bytes()].concat().into()),
        Answer::Redirect(format!("http://{}/keys", elsewhere.address)),
        Answer::Silence,
    ] {
        issuer.answers(answer);
        gate.later();
        // Nobody can tell: a new key may be there, and may be what signed this.
        assert_eq!(gate.verify(&new.token()).await, Err(Reason::KeysUnavailable));
        assert_eq!(gate.verify(&known.token()).await, Ok(()));
    }
    assert_eq!(elsewhere.asked(), 0);
    issuer.answers(set(&[&known, &new]));
    gate.later();
    assert_eq!(gate.verify(&new.token()).await, Ok(()));
    assert_eq!(gate.verify(&signer("x").token()).await, Err(Reason::TokenInvalid));
}

#[tokio::test]
async fn keys_outlive_their_issuer_and_it_is_asked_until_it_is_back() {
    let (known, new) = (signer("known"), signer("new"));
    let issuer = Issuer::start(set(&[&known])).await;
    let address = issuer.address.to_string();
    let soon = Duration::from_millis(5);
    let pace = Pace { urls: soon, again: soon, ..CALM };
    let gate = Gate::open(&[&issuer.url()], pace).await;
    let stop = CancellationToken::new();
    let reload = tokio::spawn(gate.auth.clone().reload(stop.clone()));

    drop(issuer);
    while gate.verify(&new.token()).await != Err(Reason::KeysUnavailable) {
        tokio::task::yield_now().await;
    }
    gate.later();
    assert_eq!(gate.verify(&known.token()).await, Ok(()));
    let _issuer = Issuer::start_at(&address, set(&[&new]), None).await;
    while gate.auth.verify(&headers(&new.token())).is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.verify(&known.token()).await, Err(Reason::TokenInvalid));
    stop.cancel();
    reload.await.expect("ended");
}

#[tokio::test]
async fn a_start_without_its_issuer_refuses_nobody_as_invalid_and_heals() {
    let known = signer("known");
    let issuer = Issuer::start(Answer::Body(StatusCode::BAD_GATEWAY, Bytes::new())).await;
    let secret = hs256();
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, &secret.public).expect("a file");
    let file = format!("hs256:{}", path.display());
    let gate = Gate::open(&[&issuer.url(), &file], CALM).await;

    assert_eq!(gate.verify(&known.token()).await, Err(Reason::KeysUnavailable));
    let unnamed = known.pair.token(None, &json!({}));
    assert_eq!(gate.verify(&unnamed).await, Err(Reason::KeysUnavailable));
    // What the other source decides is decided.
    assert_eq!(gate.verify(&secret.token(None, &json!({}))).await, Ok(()));
    assert_eq!(gate.verify(&hs256().token(None, &json!({}))).await, Err(Reason::TokenInvalid));
    issuer.answers(set(&[&known]));
    gate.later();
    assert_eq!(gate.verify(&known.token()).await, Ok(()));
    assert_eq!(gate.verify(&unnamed).await, Ok(()));
}

#[tokio::test]
async fn several_issuers_are_asked_together_and_one_that_is_away_takes_no_other_along() {
    let (one, two, new) = (signer("one"), signer("two"), signer("new"));
    let (first, second) = (Issuer::start(set(&[&one])).await, Issuer::start(set(&[&two])).await);
    let gate = Gate::open(&[&first.url(), &second.url()], CALM).await;
    assert_eq!(gate.verify(&one.token()).await, Ok(()));
    assert_eq!(gate.verify(&two.token()).await, Ok(()));
    first.answers(Answer::Body(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()));
    second.answers(set(&[&new]));
    assert_eq!(gate.verify(&new.token()).await, Ok(()));
    assert_eq!(gate.verify(&one.token()).await, Ok(()));
    assert_eq!((first.asked(), second.asked()), (2, 2));
}

#[tokio::test]
async fn a_call_that_waits_for_keys_waits_within_its_deadline_and_takes_no_reading_along() {
    let (known, new) = (signer("known"), signer("new"));
    let issuer = Issuer::start(set(&[&known])).await;
    let gate = Gate::open(&[&issuer.url()], CALM).await;
    issuer.answers(Answer::Silence);
    let ok = async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty()));
    let call = async |within: &str| {
        let mut request = Request::new(Body::empty());
        let method = "/parlance.membership.v1.UserService/GetUser";
        *request.uri_mut() = http::Uri::from_static(method);
        *request.headers_mut() = headers(&new.token());
        request.headers_mut().insert("grpc-timeout", within.parse().expect("a value"));
        let services = ServiceBuilder::new()
            .layer(StepLayer(Deadlines::default()))
            .layer(StepLayer(gate.auth.clone()))
            .service(Last(tower::service_fn(ok)));
        let services = Steps::new(services);
        let response = services.oneshot(request).await.expect("an answer");
        Status::from_header_map(response.headers()).and_then(|status| Reason::of(&status))
    };
    assert_eq!(call("20m").await, Some(Reason::DeadlineExceeded));
    // The second joins what the first began, and has its answer.
    let (second, ()) = tokio::join!(call("10S"), async {
        issuer.was_asked(2).await;
        issuer.answers(set(&[&new]));
    });
    assert_eq!(second, None);
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn a_key_set_is_read_over_tls_from_whom_the_roots_vouch_for() {
    let known = signer("known");
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let issuer = Issuer::start_at("127.0.0.1:0", set(&[&known]), Some(acceptor)).await;
    let source = format!("jwks:https://localhost:{}/keys", issuer.address.port());
    let patience = Duration::from_secs(5);

    let mut roots = RootCertStore::empty();
    let gate = Gate::fetching(&[&source], CALM, roots.clone(), patience).await;
    assert_eq!(gate.verify(&known.token()).await, Err(Reason::KeysUnavailable));
    assert_eq!(issuer.asked(), 0);
    roots.add(certificate.der().clone()).expect("a root");
    let gate = Gate::fetching(&[&source], CALM, roots, patience).await;
    assert_eq!(gate.verify(&known.token()).await, Ok(()));
}

#[test]
fn a_source_is_a_url_for_key_sets_only_and_shows_nothing_secret() {
    let source: KeySource = "jwks:https://ids.example/keys?token=secret".parse().expect("good");
    assert!(source.is_url());
    assert_eq!(source.to_string(), "the keys at https://ids.example/keys");
    let source: KeySource = "jwks:/etc/keys.json".parse().expect("good");
    assert!(!source.is_url());
    for bad in ["jwks:https://", "jwks:http:///keys", "jwks:https://ann:pw@host/", "jwks:"] {
        assert_eq!(bad.parse::<KeySource>(), Err(InvalidKeySource), "{bad}");
    }
}
