//! Who calls: the bearer token of every request, verified.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, Request, Response};
use jsonwebtoken::{Algorithm, Validation};
use parlance_types::{Clock, Micros, UserId};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use crate::line::Line;
use crate::reflection::{is_reflection, method};
use crate::step::{Next, Step};
use crate::token::{self, Claims, Grant, InternalKey};
use crate::trace::Seen;
use crate::{Caller, Principal, Reason, Reflection, Refusal, violation};

mod fetch;
mod keyring;
mod keys;

use fetch::Fetcher;
use keyring::{Keyring, Pace};
use keys::{Key, KeySet};

pub use keys::{InvalidKeySource, KeyError, KeySource};

/// Names the user that a service token acts for. Ids that are not ASCII come in
/// the binary form of the key.
const ACTING_USER: &str = "parlance-acting-user";
const ACTING_USER_BIN: &str = "parlance-acting-user-bin";

/// The longest token, in bytes. Issuers write the groups of a user into it.
const MAX_TOKEN: usize = 12 * 1024;

/// How far the clocks of two services of the suite may be apart. Both are the operator's, and
/// their tokens are made for one call each.
const INTERNAL_LEEWAY: Duration = Duration::from_mins(1);

/// How often it is told that the clocks are further apart.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// A token that holds longer holds as long as any stream lives.
const FOREVER: Duration = Duration::from_hours(365 * 24);

/// A token that names no key is tried on so many.
const TRIED: usize = 8;

/// What tokens must say, and the keys that sign them.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Keys of callers' tokens.
    pub keys: Vec<KeySource>,
    /// The issuer of callers' tokens.
    pub issuer: String,
    /// The audience of callers' tokens; not that of internal tokens.
    pub audience: String,
    /// How far the clocks of issuer and server may be apart; those of services of the suite
    /// may be a minute in any case.
    pub leeway: Duration,
    /// The keys of internal tokens; more than one while they are changed.
    pub internal: Vec<InternalKey>,
    /// Who may ask what services there are.
    pub reflection: Reflection,
}

impl AuthConfig {
    /// The configuration that accepts internal tokens of one key, and the tokens
    /// that `keys` sign for the default issuer and audience.
    pub fn new(keys: Vec<KeySource>, internal: InternalKey) -> Self {
        Self {
            keys,
            issuer: "parlance".to_owned(),
            audience: "parlance".to_owned(),
            leeway: Duration::from_secs(5),
            internal: vec![internal],
            reflection: Reflection::default(),
        }
    }
}

/// Why callers cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the audience of callers cannot be that of internal tokens")]
    Audience,
}

/// The step that verifies callers: puts a [`Caller`] into the extensions of a
/// request, or answers UNAUTHENTICATED. Health is open to all, reflection if the
/// configuration says so.
///
/// A token of a key that is not known yet has the key sets at URLs read again first,
/// and waits for that. While one of them cannot be read nobody can tell whether such
/// a token is good: UNAVAILABLE.
#[derive(Clone, Debug)]
pub struct Auth(Arc<Verifier>);

#[derive(Debug)]
struct Verifier {
    config: AuthConfig,
    clock: Arc<dyn Clock>,
    ring: Arc<Keyring>,
    /// When it was last told that clocks are apart.
    told: Mutex<Option<Instant>>,
}

/// Why a token grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    /// It is not good, whatever other keys there may be.
    Invalid,
    /// No key that is known signed it.
    Unknown,
}

impl Auth {
    /// Loads the keys. Files must be of use; a URL need not answer yet.
    pub async fn load(config: AuthConfig, clock: Arc<dyn Clock>) -> Result<Self, AuthError> {
        let fetcher = config.keys.iter().any(KeySource::is_url).then(Fetcher::new);
        Self::fetching(config, clock, fetcher, Pace::default()).await
    }

    async fn fetching(
        config: AuthConfig,
        clock: Arc<dyn Clock>,
        fetcher: Option<Fetcher>,
        pace: Pace,
    ) -> Result<Self, AuthError> {
        if config.audience == token::INTERNAL_AUDIENCE {
            return Err(AuthError::Audience);
        }
        let internal = config.internal.iter().map(|key| Arc::new(Key::internal(&key.0))).collect();
        let (keys, time) = (config.keys.clone(), Arc::clone(&clock));
        let ring = Keyring::open(keys, internal, fetcher, time, pace).await?;
        let (ring, told) = (Arc::new(ring), Mutex::default());
        Ok(Self(Arc::new(Verifier { config, clock, ring, told })))
    }

    /// Loads keys again when their files change, and now and then from their URLs,
    /// until `shutdown`. Keeps the last good ones of a source when that fails.
    pub async fn reload(self, shutdown: CancellationToken) {
        let ring = Arc::clone(&self.0.ring);
        shutdown.run_until_cancelled(ring.keep()).await;
    }

    /// The caller that the headers of a request name, by the keys that are known.
    pub fn verify(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let grant = self.0.grant(bearer(headers)?);
        let grant = grant.map_err(|denied| self.0.refusal(denied))?;
        self.caller(headers, &grant)
    }

    /// The same; a key that is not known yet is looked for first.
    async fn learn(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let token = bearer(headers)?;
        let ring = &self.0.ring;
        let mut grant = self.0.grant(token);
        if matches!(grant, Err(Denied::Unknown)) {
            let Some(_place) = ring.wait() else { return Err(unavailable()) };
            // The second time after one that had begun before this request came.
            while matches!(grant, Err(Denied::Unknown))
                && let Some(renewal) = ring.look_for_unknown()
            {
                renewal.await;
                grant = self.0.grant(token);
            }
        }
        let grant = grant.map_err(|denied| self.0.refusal(denied))?;
        self.caller(headers, &grant)
    }

    pub(crate) fn reflection(&self) -> Reflection {
        self.0.config.reflection
    }

    fn needs_token(&self, path: &str) -> bool {
        !is_open(path) || !is_health(path) && self.reflection() != Reflection::Open
    }

    fn caller(&self, headers: &HeaderMap, grant: &Grant) -> Result<Caller, Refusal> {
        let leeway = self.0.leeway(&grant.principal);
        let expires = grant.ends.saturating_add(leeway);
        let now = self.0.clock.now();
        if now >= expires {
            self.0.tell_skew(grant, "exp", now.saturating_sub(grant.ends));
            return Err(Refusal::new(Reason::TokenExpired, "the token has expired"));
        }
        if now < grant.begins.saturating_sub(leeway) {
            self.0.tell_skew(grant, "nbf", grant.begins.saturating_sub(now));
            return Err(invalid());
        }
        let principal = acting(headers, grant.principal.clone())?;
        let (tenant_id, subject) = (grant.tenant_id.clone(), grant.subject.clone());
        Ok(Caller { tenant_id, subject, principal, expires, leaves: None })
    }
}

impl Verifier {
    fn leeway(&self, principal: &Principal) -> Micros {
        let leeway = match principal {
            Principal::Internal(_) => self.config.leeway.max(INTERNAL_LEEWAY),
            _ => self.config.leeway,
        };
        Micros::try_from(leeway.as_micros()).unwrap_or(Micros::MAX)
    }

    /// Tells which claim of a token with a good signature does not hold, and by how much. If
    /// a service of the suite made it, just now, one of the two clocks is wrong.
    fn tell_skew(&self, grant: &Grant, claim: &str, by: Micros) {
        let seconds = by / 1_000_000;
        if !matches!(grant.principal, Principal::Internal(_)) {
            tracing::debug!(claim, seconds, "a token does not hold at this time");
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(
                claim,
                seconds,
                "refused a call of another service: its clock and the clock here are too far apart"
            );
        }
    }

    /// What a token grants, whatever the time.
    fn grant(&self, token: &str) -> Result<Arc<Grant>, Denied> {
        let keys = self.ring.present();
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(grant) = keys.verified.get(&hash) {
            return Ok(grant);
        }
        let grant = Arc::new(self.check(&keys, token)?);
        keys.verified.insert(hash, Arc::clone(&grant));
        Ok(grant)
    }

    /// Checks the signature, then the issuer and audience that go with its key.
    fn check(&self, set: &KeySet, token: &str) -> Result<Grant, Denied> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Denied::Invalid)?;
        // What must be understood is not: no extension is.
        if header.crit.is_some() {
            return Err(Denied::Invalid);
        }
        let id = header.kid.as_deref();
        for key in set.keys.iter().filter(|key| key.fits(header.alg, id)).take(TRIED) {
            let Ok(data) = jsonwebtoken::decode::<Claims>(token, &key.verifying, &rules(key))
            else {
                continue;
            };
            let (issuer, audience) = if key.internal {
                (token::INTERNAL_ISSUER, token::INTERNAL_AUDIENCE)
            } else {
                (self.config.issuer.as_str(), self.config.audience.as_str())
            };
            if data.claims.is_for(issuer, audience) {
                return data.claims.grant(key.internal).ok_or(Denied::Invalid);
            }
        }
        // Key sets hold nothing else.
        let public = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256].contains(&header.alg);
        let named = id.is_some_and(|id| set.keys.iter().any(|key| key.is_named(id)));
        let unknown = public && !named && self.ring.has_urls();
        Err(if unknown { Denied::Unknown } else { Denied::Invalid })
    }

    /// An outage is not the token's fault.
    fn refusal(&self, denied: Denied) -> Refusal {
        match denied {
            Denied::Unknown if self.ring.in_doubt() => unavailable(),
            Denied::Unknown | Denied::Invalid => invalid(),
        }
    }
}

/// The library checks the signature only: claims are required by their type, and
/// times are compared with our clock.
fn rules(key: &Key) -> Validation {
    let mut rules = Validation::new(key.algorithm);
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.validate_aud = false;
    rules
}

/// Says nothing of what is wrong: that would help to forge a token.
fn invalid() -> Refusal {
    Refusal::new(Reason::TokenInvalid, "the token is not valid")
}

fn unavailable() -> Refusal {
    Refusal::new(Reason::KeysUnavailable, "the keys of callers cannot be read at present")
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Refusal::new(Reason::TokenMissing, "no bearer token"));
    };
    if values.next().is_some() {
        return Err(invalid());
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(invalid)?;
    if scheme.eq_ignore_ascii_case("bearer") && token.len() <= MAX_TOKEN {
        Ok(token.trim())
    } else {
        Err(invalid())
    }
}

/// The principal, acting for the user that the request names if it names one.
fn acting(headers: &HeaderMap, principal: Principal) -> Result<Principal, Refusal> {
    let plain = headers.get_all(ACTING_USER).iter().map(|value| Some(value.as_bytes().to_vec()));
    let binary = headers.get_all(ACTING_USER_BIN).iter().map(|value| {
        let digits = value.as_bytes().trim_ascii_end();
        STANDARD_NO_PAD
            .decode(digits.strip_suffix(b"==").or(digits.strip_suffix(b"=")).unwrap_or(digits))
            .ok()
    });
    let mut named = plain.chain(binary);
    let Some(user) = named.next() else { return Ok(principal) };
    if principal != Principal::Service {
        return Err(Refusal::new(
            Reason::NotAllowed,
            "only a service token may name the user that it acts for",
        ));
    }
    let user = user.filter(|_| named.next().is_none());
    let user = user.and_then(|user| String::from_utf8(user).ok());
    let user = user.and_then(|user| UserId::parse(user).ok());
    let rule = "must be one id of 1 to 128 bytes without control characters";
    user.map(Principal::ServiceFor).ok_or_else(|| violation(ACTING_USER, rule))
}

/// The caller, as far as the connection allows: where services of the suite have certificates,
/// a token of theirs counts on a connection that began with one. Within the process there is none.
fn of_line(mut caller: Caller, line: Option<&Line>) -> Result<Caller, Refusal> {
    let Some(line) = line else { return Ok(caller) };
    if matches!(caller.principal, Principal::Internal(_)) && !line.is_of_suite() {
        tracing::warn!(
            "refused a call of a service of the suite: its connection began without a certificate \
             that names one of tls-peer"
        );
        return Err(invalid());
    }
    caller.leaves = line.streams_leave();
    Ok(caller)
}

/// When the token of a request ends, so far as the clock tells now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenEnds(pub(crate) Instant);

/// Whether a call is to health or reflection.
pub(crate) fn is_open(path: &str) -> bool {
    is_health(path) || is_reflection(path)
}

pub(crate) fn is_health(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
}

impl Step for Auth {
    async fn run<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        // Nothing but this step says who calls.
        request.extensions_mut().remove::<Caller>();
        let path = request.uri().path();
        if self.needs_token(path) {
            let line = request.extensions().get::<Arc<Line>>().cloned();
            // What no service has needs no token: default probes of load balancers call such a
            // method, and take this answer for health.
            if method(path).is_none() && !is_reflection(path) {
                if let Some(line) = line {
                    line.met_stranger();
                }
                return Ok(Status::unimplemented("no service has this method").into_http());
            }
            let caller = self.learn(request.headers()).await;
            let caller = match caller.and_then(|caller| of_line(caller, line.as_deref())) {
                Ok(caller) => caller,
                Err(refusal) => {
                    if let Some(line) = line {
                        line.met_stranger();
                    }
                    return Ok(Status::from(refusal).into_http());
                }
            };
            if let Some(line) = line {
                line.is_known_now();
            }
            if let Some(seen) = request.extensions().get::<Arc<Seen>>() {
                let _first = seen.0.set(caller.clone());
            }
            let left = caller.expires.saturating_sub(self.0.clock.now());
            let left = Duration::from_micros(u64::try_from(left).unwrap_or(0)).min(FOREVER);
            request.extensions_mut().insert(TokenEnds(Instant::now() + left));
            request.extensions_mut().insert(caller);
        }
        next.call(request).await
    }
}

#[cfg(test)]
mod tests;
