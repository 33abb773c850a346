//! Who calls: the bearer token of every request, verified.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, Request, Response};
use jsonwebtoken::Validation;
use parlance_types::{Clock, Micros, UserId};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use crate::internal::{self, InternalKey};
use crate::step::{Next, Step};
use crate::trace::Seen;
use crate::{Caller, Principal, Reason, Refusal, violation};

mod keys;
mod token;

use keys::{Key, KeySet};
use token::Grant;

pub use keys::{InvalidKeySource, KeyError, KeySource};
pub(crate) use token::{Claims, sign};
pub use token::{InvalidSecret, Minter, Role, Secret};

/// Names the user that a service token acts for. Ids that are not ASCII come in
/// the binary form of the key.
const ACTING_USER: &str = "parlance-acting-user";
const ACTING_USER_BIN: &str = "parlance-acting-user-bin";

/// How often the key files are looked at.
const RELOAD: Duration = Duration::from_secs(3);

/// The longest token, in bytes.
const MAX_TOKEN: usize = 4096;

/// What tokens must say, and the keys that sign them.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Keys of callers' tokens.
    pub keys: Vec<KeySource>,
    /// The issuer of callers' tokens.
    pub issuer: String,
    /// The audience of callers' tokens; not that of internal tokens.
    pub audience: String,
    /// How far the clocks of issuer and server may be apart.
    pub leeway: Duration,
    /// The keys of internal tokens; more than one while they are changed.
    pub internal: Vec<InternalKey>,
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
/// request, or answers UNAUTHENTICATED. Health and reflection are open to all.
#[derive(Clone, Debug)]
pub struct Auth(Arc<Verifier>);

#[derive(Debug)]
struct Verifier {
    config: AuthConfig,
    clock: Arc<dyn Clock>,
    keys: ArcSwap<KeySet>,
    /// The key files as they were first read.
    files: Vec<Vec<u8>>,
}

impl Auth {
    /// Loads the keys.
    pub async fn load(config: AuthConfig, clock: Arc<dyn Clock>) -> Result<Self, AuthError> {
        if config.audience == internal::AUDIENCE {
            return Err(AuthError::Audience);
        }
        let files = keys::read(&config.keys).await?;
        let keys = ArcSwap::from_pointee(key_set(&config, &files)?);
        Ok(Self(Arc::new(Verifier { config, clock, keys, files })))
    }

    /// Loads keys again when their files change, until `shutdown`. Keeps the last
    /// good ones when that fails.
    pub async fn reload(self, shutdown: CancellationToken) {
        let mut seen = Ok(self.0.files.clone());
        while shutdown.run_until_cancelled(tokio::time::sleep(RELOAD)).await.is_some() {
            let files = keys::read(&self.0.config.keys).await.map_err(|error| describe(&error));
            if files == seen {
                continue;
            }
            let keys = files
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|files| key_set(&self.0.config, files).map_err(|error| describe(&error)));
            match keys {
                Ok(keys) => {
                    self.0.keys.store(Arc::new(keys));
                    tracing::info!("loaded the keys of callers again");
                }
                Err(error) => tracing::error!(error, "the keys of callers stay as they are"),
            }
            seen = files;
        }
    }

    /// The caller that the headers of a request name.
    pub fn verify(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let token = bearer(headers)?;
        let grant = self.0.grant(token)?;
        let leeway = Micros::try_from(self.0.config.leeway.as_micros()).unwrap_or(Micros::MAX);
        let expires = grant.ends.saturating_add(leeway);
        let now = self.0.clock.now();
        if now >= expires {
            return Err(Refusal::new(Reason::TokenExpired, "the token has expired"));
        }
        if now < grant.begins.saturating_sub(leeway) {
            return Err(invalid());
        }
        let principal = acting(headers, grant.principal.clone())?;
        Ok(Caller { tenant_id: grant.tenant_id.clone(), principal, expires })
    }
}

/// An error with its cause, on one line.
fn describe(error: &KeyError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

fn key_set(config: &AuthConfig, files: &[Vec<u8>]) -> Result<KeySet, KeyError> {
    let mut keys = keys::parse(&config.keys, files)?;
    keys.extend(config.internal.iter().map(|key| Key::internal(&key.0)));
    Ok(KeySet::new(keys))
}

impl Verifier {
    /// What a token grants, whatever the time.
    fn grant(&self, token: &str) -> Result<Arc<Grant>, Refusal> {
        let keys = self.keys.load();
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(grant) = keys.verified.get(&hash) {
            return Ok(grant);
        }
        let grant = Arc::new(self.check(&keys.keys, token).ok_or_else(invalid)?);
        keys.verified.insert(hash, Arc::clone(&grant));
        Ok(grant)
    }

    /// Checks the signature, then the issuer and audience that go with its key.
    fn check(&self, keys: &[Key], token: &str) -> Option<Grant> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let fitting = keys.iter().filter(|key| key.fits(header.alg, header.kid.as_deref()));
        for key in fitting {
            let Ok(data) = jsonwebtoken::decode::<Claims>(token, &key.verifying, &rules(key))
            else {
                continue;
            };
            let (issuer, audience) = if key.internal {
                (internal::ISSUER, internal::AUDIENCE)
            } else {
                (self.config.issuer.as_str(), self.config.audience.as_str())
            };
            if data.claims.is_for(issuer, audience) {
                return data.claims.grant(key.internal);
            }
        }
        None
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

/// Whether a call needs no token.
pub(crate) fn is_open(path: &str) -> bool {
    is_health(path) || path.starts_with("/grpc.reflection.")
}

pub(crate) fn is_health(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
}

/// The services that only the suite calls. They take large requests, so others are
/// refused before a byte of theirs is read.
fn is_internal(path: &str) -> bool {
    let services = ["/parlance.message.v1.LogService/", "/parlance.membership.v1.RosterService/"];
    services.iter().any(|service| path.starts_with(service))
}

impl Step for Auth {
    async fn run<S: Next>(
        &self,
        mut request: Request<Body>,
        mut next: S,
    ) -> Result<Response<Body>, S::Error> {
        // Nothing but this step says who calls.
        request.extensions_mut().remove::<Caller>();
        if !is_open(request.uri().path()) {
            let caller = match self.verify(request.headers()) {
                Ok(caller) => caller,
                Err(refusal) => return Ok(Status::from(refusal).into_http()),
            };
            if let Some(seen) = request.extensions().get::<Arc<Seen>>() {
                let _first = seen.0.set(caller.clone());
            }
            let outside = !matches!(caller.principal, Principal::Internal(_));
            if outside && is_internal(request.uri().path()) {
                let refusal =
                    Refusal::new(Reason::NotAllowed, "the service is internal to the suite");
                return Ok(Status::from(refusal).into_http());
            }
            request.extensions_mut().insert(caller);
        }
        next.call(request).await
    }
}

#[cfg(test)]
mod tests;
