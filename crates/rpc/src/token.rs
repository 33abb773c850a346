//! What a token says, how it is signed, and what makes its claims good.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parlance_types::{Micros, TenantId, UserId};
use rand::RngCore;
use serde::{Deserialize, Serialize};

use crate::Principal;

/// The issuer of internal tokens.
pub(crate) const INTERNAL_ISSUER: &str = "parlance";

/// The audience of internal tokens. No other key may sign tokens for it.
pub const INTERNAL_AUDIENCE: &str = "parlance-internal";

/// The longest `sub`, in bytes.
const MAX_SUBJECT: usize = 255;

/// The longest life of an internal token, in microseconds. Services sign each call anew; a
/// token that holds for longer was made by somebody else.
const MAX_INTERNAL_LIFE: Micros = 5 * 60 * 1_000_000;

/// The shortest secret of HS256, in bytes.
const MIN_SECRET: usize = 32;

/// A secret that is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret must have at least 32 bytes")]
pub struct InvalidSecret;

/// A shared secret, for HS256.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret of these bytes, at least 32, all of them.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, InvalidSecret> {
        let bytes = bytes.into();
        if bytes.len() >= MIN_SECRET { Ok(Self(bytes)) } else { Err(InvalidSecret) }
    }

    /// The secret that a file holds. One line end behind a text is not part of it, since
    /// editors and shells put it there; of what is no text every byte counts.
    pub fn in_file(said: &[u8]) -> Result<Self, InvalidSecret> {
        let line = said.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let is_text = |line: &[u8]| {
            std::str::from_utf8(line).is_ok_and(|text| !text.chars().any(char::is_control))
        };
        match line.filter(|line| is_text(line)) {
            Some(line) => {
                tracing::debug!("the line end behind a secret is not part of it");
                Self::new(line)
            }
            None => Self::new(said),
        }
    }

    /// A new secret: 32 random bytes, written as 64 hexadecimal digits.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect())
    }

    /// The secret in a file.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        Self::in_file(&std::fs::read(path)?).map_err(std::io::Error::other)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The key that the services of one installation share.
#[derive(Clone)]
pub struct InternalKey(pub(crate) Secret);

impl InternalKey {
    /// A new key, for an installation that lives in one process.
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// The key of an installation whose services know each other by their certificates. It is
    /// no secret, and proves nothing: a token that it signs counts only on a connection that
    /// began with such a certificate.
    pub fn vouched_for() -> Self {
        Self(Secret(b"a certificate vouches for who signs with this".to_vec()))
    }
}

impl From<Secret> for InternalKey {
    fn from(secret: Secret) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InternalKey")
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Acts for the user that `sub` names.
    #[default]
    User,
    /// Acts for its tenant, or with the rights of a user that it names.
    Service,
    /// Administers.
    Operator,
}

/// The claims of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: Audience,
    sub: String,
    tenant: String,
    #[serde(default)]
    role: Role,
    exp: NumericDate,
    /// Most issuers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<NumericDate>,
    /// The user that another service of the suite acts for. Internal tokens only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
}

/// Seconds since the Unix epoch; others may write fractions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Whole(u64),
    Fraction(f64),
}

impl NumericDate {
    fn at(time: Micros) -> Self {
        Self::Whole(u64::try_from(time.div_euclid(1_000_000)).unwrap_or(0))
    }

    fn later(self, by: Duration) -> Self {
        match self {
            Self::Whole(seconds) => Self::Whole(seconds.saturating_add(by.as_secs())),
            Self::Fraction(seconds) => Self::Fraction(seconds + by.as_secs_f64()),
        }
    }

    /// `None` when it is no time.
    fn micros(self) -> Option<Micros> {
        let since = match self {
            Self::Whole(seconds) => Duration::from_secs(seconds),
            Self::Fraction(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        };
        Micros::try_from(since.as_micros()).ok()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

impl Claims {
    pub(crate) fn new(
        issuer: &str,
        audience: &str,
        subject: &str,
        tenant: &TenantId,
        role: Role,
        now: Micros,
        life: Duration,
    ) -> Self {
        let begins = NumericDate::at(now);
        Self {
            iss: issuer.to_owned(),
            aud: Audience::One(audience.to_owned()),
            sub: subject.to_owned(),
            tenant: tenant.as_str().to_owned(),
            role,
            exp: begins.later(life),
            nbf: Some(begins),
            actor: None,
        }
    }

    /// Names the user that another service of the suite acts for.
    pub(crate) fn on_behalf_of(mut self, actor: Option<&UserId>) -> Self {
        self.actor = actor.map(|actor| actor.as_str().to_owned());
        self
    }

    /// Whether the token was made by `issuer` for `audience`.
    pub(crate) fn is_for(&self, issuer: &str, audience: &str) -> bool {
        self.iss == issuer && self.aud.has(audience)
    }

    /// What the claims amount to; `None` when they cannot be.
    pub(crate) fn grant(&self, internal: bool) -> Option<Grant> {
        let principal = match (internal, self.role) {
            (true, _) => {
                let actor = self.actor.as_ref().map(UserId::parse);
                Principal::Internal(actor.transpose().ok()?)
            }
            (false, Role::User) => Principal::User(UserId::parse(&self.sub).ok()?),
            (false, Role::Service) => Principal::Service,
            (false, Role::Operator) => Principal::Operator,
        };
        Some(Grant {
            tenant_id: TenantId::parse(&self.tenant).ok()?,
            subject: is_subject(&self.sub).then(|| self.sub.clone())?,
            principal,
            begins: self.nbf.map_or(Some(0), NumericDate::micros)?,
            ends: self.exp.micros()?,
        })
        .filter(|grant| !internal || grant.ends.saturating_sub(grant.begins) <= MAX_INTERNAL_LIFE)
    }
}

/// Whether a `sub` can be kept beside what its caller does.
fn is_subject(sub: &str) -> bool {
    (1..=MAX_SUBJECT).contains(&sub.len()) && !sub.chars().any(char::is_control)
}

/// What a token with a good signature grants, and when.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) tenant_id: TenantId,
    pub(crate) subject: String,
    pub(crate) principal: Principal,
    pub(crate) begins: Micros,
    pub(crate) ends: Micros,
}

/// Signs claims with HS256.
pub(crate) fn sign(secret: &Secret, claims: &Claims) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
        .expect("claims are strings and numbers, and any secret signs")
}

/// Mints tokens for callers with a shared secret: for the embedded mode and for
/// trying things out.
#[derive(Clone, Debug)]
pub struct Minter {
    pub secret: Secret,
    pub issuer: String,
    pub audience: String,
}

impl Minter {
    /// A token of `tenant` for the user, service or operator `subject` that holds
    /// from `now` for `life`.
    pub fn token(
        &self,
        tenant: &TenantId,
        role: Role,
        subject: &UserId,
        now: Micros,
        life: Duration,
    ) -> String {
        let Self { secret, issuer, audience } = self;
        sign(secret, &Claims::new(issuer, audience, subject.as_str(), tenant, role, now, life))
    }
}
