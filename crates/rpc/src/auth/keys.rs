//! The keys that tokens are verified with, and where they come from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::time::timeout;

use super::fetch::Fetcher;
use crate::token::Secret;

/// The most keys of one source.
const MAX_KEYS: usize = 64;

/// How long a file may take to be read.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Where keys come from, and which algorithm they are for. Written
/// `hs256:FILE`, `eddsa:FILE`, `es256:FILE`, `rs256:FILE`, `jwks:FILE`,
/// `jwks:https://...` or `jwks:http://...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    kind: Kind,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Url(Uri),
}

/// For people: `the key file F`, `the keys at URL`.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path) => write!(f, "the key file {}", path.display()),
            // Not what follows a question mark: it may be a secret.
            Place::Url(url) => {
                let scheme = url.scheme_str().unwrap_or_default();
                let host = url.authority().map_or("", |authority| authority.as_str());
                write!(f, "the keys at {scheme}://{host}{}", url.path())
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A shared secret of at least 32 bytes.
    Secret,
    /// A public key as PEM, for one algorithm.
    Pem(Algorithm),
    /// A JSON Web Key Set.
    Jwks,
}

/// A text that names no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be hs256:FILE, eddsa:FILE, es256:FILE, rs256:FILE, jwks:FILE or jwks:URL")]
pub struct InvalidKeySource;

impl FromStr for KeySource {
    type Err = InvalidKeySource;

    fn from_str(text: &str) -> Result<Self, InvalidKeySource> {
        let (kind, place) = text.split_once(':').ok_or(InvalidKeySource)?;
        let kind = match kind {
            "hs256" => Kind::Secret,
            "eddsa" => Kind::Pem(Algorithm::EdDSA),
            "es256" => Kind::Pem(Algorithm::ES256),
            "rs256" => Kind::Pem(Algorithm::RS256),
            "jwks" => Kind::Jwks,
            _ => return Err(InvalidKeySource),
        };
        let place = match place.split_once("://") {
            Some(("http" | "https", _)) if kind == Kind::Jwks => Place::Url(url(place)?),
            _ if place.is_empty() => return Err(InvalidKeySource),
            _ => Place::File(place.into()),
        };
        Ok(Self { kind, place })
    }
}

/// The address of a host, without a password: it would be sent to nobody.
fn url(text: &str) -> Result<Uri, InvalidKeySource> {
    let url: Uri = text.parse().map_err(|_| InvalidKeySource)?;
    let authority = url.authority().ok_or(InvalidKeySource)?;
    let plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    if plain { Ok(url) } else { Err(InvalidKeySource) }
}

impl KeySource {
    /// The HS256 secret in a file.
    pub fn secret(path: impl Into<PathBuf>) -> Self {
        Self { kind: Kind::Secret, place: Place::File(path.into()) }
    }
}

/// Why keys could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {used}")]
pub struct KeyError {
    used: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// A key, for one algorithm.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    /// What it is made from, if that is shared.
    secret: Option<Secret>,
    pub(super) algorithm: Algorithm,
    pub(super) verifying: DecodingKey,
    /// Whether it is the key of the suite itself.
    pub(super) internal: bool,
}

impl Key {
    pub(super) fn internal(secret: &Secret) -> Self {
        let verifying = DecodingKey::from_secret(secret.as_bytes());
        let secret = Some(secret.clone());
        Self { id: None, secret, algorithm: Algorithm::HS256, verifying, internal: true }
    }

    /// Whether one secret makes both.
    fn shares(&self, other: &Self) -> bool {
        self.secret.is_some() && self.secret == other.secret
    }

    /// Whether it is known by this id.
    pub(super) fn is_named(&self, id: &str) -> bool {
        self.id.as_deref() == Some(id)
    }

    /// Whether a token with this header may have been signed by this key. The
    /// algorithm is the key's: one that the token chose instead fits no key.
    pub(super) fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let named = self.id.as_deref();
        self.algorithm == algorithm && (named.is_none() || id.is_none() || named == id)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl KeySource {
    fn error(&self, source: impl Into<BoxError>) -> KeyError {
        KeyError { used: self.to_string(), source: source.into() }
    }

    pub(super) fn is_url(&self) -> bool {
        matches!(self.place, Place::Url(_))
    }

    /// What the source says at present. `fetcher` is there if the source is a URL.
    pub(super) async fn read(&self, fetcher: Option<&Fetcher>) -> Result<Vec<u8>, KeyError> {
        match (&self.place, fetcher) {
            (Place::File(path), _) => match timeout(READ_WITHIN, tokio::fs::read(path)).await {
                Ok(file) => file.map_err(|error| self.error(error)),
                Err(elapsed) => Err(self.error(elapsed)),
            },
            (Place::Url(url), Some(fetcher)) => {
                fetcher.fetch(url).await.map_err(|error| self.error(error))
            }
            (Place::Url(_), None) => Err(self.error("nobody fetches it")),
        }
    }

    /// The keys in what the source said; none may be one of the suite's own.
    pub(super) fn keys(&self, said: &[u8], own: &[Arc<Key>]) -> Result<Vec<Arc<Key>>, KeyError> {
        let keys = self.parse(said).map_err(|error| self.error(error))?;
        if keys.iter().any(|key| own.iter().any(|own| own.shares(key))) {
            return Err(self.error("it is the internal key: callers could call as services do"));
        }
        Ok(keys.into_iter().map(Arc::new).collect())
    }

    fn parse(&self, said: &[u8]) -> Result<Vec<Key>, BoxError> {
        let one = |algorithm, verifying, secret| {
            vec![Key { id: None, secret, algorithm, verifying, internal: false }]
        };
        Ok(match self.kind {
            Kind::Secret => {
                let secret = Secret::in_file(said)?;
                let verifying = DecodingKey::from_secret(secret.as_bytes());
                one(Algorithm::HS256, verifying, Some(secret))
            }
            Kind::Pem(algorithm) => one(algorithm, public_key(algorithm, said)?, None),
            Kind::Jwks => {
                let set: JwkSet = serde_json::from_slice(said)?;
                let keys: Vec<Key> = set.keys.iter().filter_map(from_jwk).take(MAX_KEYS).collect();
                if keys.is_empty() {
                    return Err("the set holds no signing key for EdDSA, ES256 or RS256".into());
                }
                keys
            }
        })
    }
}

fn public_key(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, BoxError> {
    // The library would take it, and verify nothing with it.
    if String::from_utf8_lossy(pem).contains("PRIVATE KEY-----") {
        return Err("it holds a private key: give its public key".into());
    }
    Ok(match algorithm {
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    }?)
}

/// The key, if it is a public one for signatures that are accepted here.
fn from_jwk(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return None,
    };
    let named = jwk.common.key_algorithm;
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    if !signs || named.is_some_and(|named| named != KeyAlgorithm::from(algorithm)) {
        return None;
    }
    let verifying = DecodingKey::from_jwk(jwk).ok()?;
    let id = jwk.common.key_id.clone();
    Some(Key { id, secret: None, algorithm, verifying, internal: false })
}

/// The present keys, with what they verified lately.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Arc<Key>>,
    /// By the hash of the token. A new set begins with none.
    pub(super) verified: moka::sync::Cache<[u8; 32], Arc<crate::token::Grant>>,
}

impl KeySet {
    pub(super) fn new(keys: Vec<Arc<Key>>) -> Self {
        let verified = moka::sync::Cache::builder()
            .max_capacity(10_000)
            .time_to_live(Duration::from_mins(5))
            .build();
        Self { keys, verified }
    }
}
