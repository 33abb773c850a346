//! How the services of the suite call each other: with short-lived tokens of
//! their own, over the network and within the process alike.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parlance_types::{Clock, TenantId, UserId};
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::auth::{Claims, InvalidSecret, Role, Secret, sign};
use crate::trace;

/// The issuer of internal tokens.
pub(crate) const ISSUER: &str = "parlance";

/// The audience of internal tokens. No other key may sign tokens for it.
pub const AUDIENCE: &str = "parlance-internal";

/// How long an internal token holds.
const LIFE: Duration = Duration::from_mins(1);

/// The key that the services of one installation share.
#[derive(Clone)]
pub struct InternalKey(pub(crate) Secret);

impl InternalKey {
    /// A new key, for an installation that lives in one process.
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// The key of these bytes, at least 32.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, InvalidSecret> {
        Secret::new(secret).map(Self)
    }
}

impl fmt::Debug for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InternalKey")
    }
}

/// Mints short-lived internal tokens and builds requests to other services of
/// the suite.
#[derive(Clone, Debug)]
pub struct Internal {
    signing: InternalKey,
    clock: Arc<dyn Clock>,
}

impl Internal {
    pub fn new(signing: InternalKey, clock: Arc<dyn Clock>) -> Self {
        Self { signing, clock }
    }

    /// A request for `tenant`, on behalf of `actor`, with an internal bearer
    /// token and a `grpc-timeout`: `deadline` bounds it.
    ///
    /// Carries the request id and the trace of the request being handled.
    pub fn request<T>(
        &self,
        tenant: &TenantId,
        actor: Option<&UserId>,
        deadline: Duration,
        message: T,
    ) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        let bearer = format!("Bearer {}", self.token(tenant, actor));
        let bearer = MetadataValue::try_from(bearer).expect("a token is ASCII");
        request.metadata_mut().insert("authorization", bearer);
        trace::inject(request.metadata_mut());
        request
    }

    fn token(&self, tenant: &TenantId, actor: Option<&UserId>) -> String {
        let now = self.clock.now();
        let claims = Claims::new(ISSUER, AUDIENCE, "parlance", tenant, Role::User, now, LIFE);
        sign(&self.signing.0, &claims.on_behalf_of(actor))
    }
}
