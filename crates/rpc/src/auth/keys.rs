//! The keys that tokens are verified with, and where they come from.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::token::Secret;

/// The most keys of one file.
const MAX_KEYS: usize = 64;

/// Where keys come from, and which algorithm they are for. Written
/// `hs256:FILE`, `eddsa:FILE`, `es256:FILE`, `rs256:FILE` or `jwks:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    kind: Kind,
    path: PathBuf,
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
#[error("must be hs256:FILE, eddsa:FILE, es256:FILE, rs256:FILE or jwks:FILE")]
pub struct InvalidKeySource;

impl FromStr for KeySource {
    type Err = InvalidKeySource;

    fn from_str(text: &str) -> Result<Self, InvalidKeySource> {
        let (kind, path) = text.split_once(':').ok_or(InvalidKeySource)?;
        let kind = match kind {
            "hs256" => Kind::Secret,
            "eddsa" => Kind::Pem(Algorithm::EdDSA),
            "es256" => Kind::Pem(Algorithm::ES256),
            "rs256" => Kind::Pem(Algorithm::RS256),
            "jwks" => Kind::Jwks,
            _ => return Err(InvalidKeySource),
        };
        if path.is_empty() { Err(InvalidKeySource) } else { Ok(Self { kind, path: path.into() }) }
    }
}

impl KeySource {
    /// The HS256 secret in a file.
    pub fn secret(path: impl Into<PathBuf>) -> Self {
        Self { kind: Kind::Secret, path: path.into() }
    }
}

/// Why keys could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the key file {path}")]
pub struct KeyError {
    path: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// A key, for one algorithm.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) verifying: DecodingKey,
    /// Whether it is the key of the suite itself.
    pub(super) internal: bool,
}

impl Key {
    pub(super) fn internal(secret: &Secret) -> Self {
        let verifying = DecodingKey::from_secret(secret.as_bytes());
        Self { id: None, algorithm: Algorithm::HS256, verifying, internal: true }
    }

    /// Whether a token with this header may have been signed by this key. The
    /// algorithm is the key's: one that the token chose instead fits no key.
    pub(super) fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let named = self.id.as_deref();
        self.algorithm == algorithm && (named.is_none() || id.is_none() || named == id)
    }
}

/// The bytes of every key file, to see when one changes.
pub(super) async fn read(sources: &[KeySource]) -> Result<Vec<Vec<u8>>, KeyError> {
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        let read = tokio::time::timeout(Duration::from_secs(5), tokio::fs::read(&source.path));
        let file = match read.await {
            Ok(file) => file.map_err(|error| source.error(error))?,
            Err(elapsed) => return Err(source.error(elapsed)),
        };
        files.push(file);
    }
    Ok(files)
}

/// The keys in the files, which [`read`] read.
pub(super) fn parse(sources: &[KeySource], files: &[Vec<u8>]) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    for (source, file) in sources.iter().zip(files) {
        keys.extend(source.keys(file).map_err(|error| source.error(error))?);
    }
    Ok(keys)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl KeySource {
    fn error(&self, source: impl Into<BoxError>) -> KeyError {
        KeyError { path: self.path.display().to_string(), source: source.into() }
    }

    fn keys(&self, file: &[u8]) -> Result<Vec<Key>, BoxError> {
        let one =
            |algorithm, verifying| vec![Key { id: None, algorithm, verifying, internal: false }];
        Ok(match self.kind {
            Kind::Secret => {
                let secret = Secret::new(file)?;
                one(Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes()))
            }
            Kind::Pem(algorithm) => one(algorithm, public_key(algorithm, file)?),
            Kind::Jwks => {
                let set: JwkSet = serde_json::from_slice(file)?;
                let keys: Vec<Key> = set.keys.iter().filter_map(from_jwk).take(MAX_KEYS).collect();
                if keys.is_empty() {
                    return Err("the set holds no signing key for EdDSA, ES256 or RS256".into());
                }
                keys
            }
        })
    }
}

fn public_key(algorithm: Algorithm, pem: &[u8]) -> jsonwebtoken::errors::Result<DecodingKey> {
    match algorithm {
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    }
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
    Some(Key { id: jwk.common.key_id.clone(), algorithm, verifying, internal: false })
}

/// The present keys, with what they verified lately.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// By the hash of the token. A new set begins with none.
    pub(super) verified: moka::sync::Cache<[u8; 32], Arc<super::token::Grant>>,
}

impl KeySet {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        let verified = moka::sync::Cache::builder()
            .max_capacity(10_000)
            .time_to_live(Duration::from_mins(5))
            .build();
        Self { keys, verified }
    }
}
