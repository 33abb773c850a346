//! How the services of the suite call each other: with short-lived tokens of
//! their own, over the network and within the process alike.

use std::sync::Arc;
use std::time::Duration;

use parlance_types::{Clock, TenantId, UserId};
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::token::{Claims, INTERNAL_AUDIENCE, INTERNAL_ISSUER, InternalKey, Role, sign};
use crate::trace;

/// How long an internal token holds.
const LIFE: Duration = Duration::from_mins(1);

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
        let claims = Claims::new(
            INTERNAL_ISSUER,
            INTERNAL_AUDIENCE,
            "parlance",
            tenant,
            Role::User,
            now,
            LIFE,
        );
        sign(&self.signing.0, &claims.on_behalf_of(actor))
    }
}
