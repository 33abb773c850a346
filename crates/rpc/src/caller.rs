//! Who calls: put into the request by the auth layer, read by handlers.

use http::Extensions;
use parlance_types::{Micros, RequestId, TenantId, UserId, Whose};
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::{Reason, Refusal};

/// A verified caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub tenant_id: TenantId,
    /// The `sub` of the token: the user, or the backend whoever it acts for.
    pub subject: String,
    pub principal: Principal,
    /// When the token expires; open streams end then.
    pub expires: Micros,
    /// When the connection of the call is so old that open streams go elsewhere.
    pub leaves: Option<Instant>,
}

/// What kind of caller it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A user, with the user's own token.
    User(UserId),
    /// A backend service, on behalf of a user and with that user's rights.
    ServiceFor(UserId),
    /// A backend service that acts for nobody: for the tenant.
    Service,
    /// An operator of the installation.
    Operator,
    /// Another service of the suite, on behalf of a user if it says so.
    Internal(Option<UserId>),
}

/// Who is counted as one where calls are bounded: a backend is one, whoever it acts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    User(UserId),
    Service(String),
    Operator(String),
}

impl Caller {
    /// As whom it is counted; the suite itself is not.
    pub(crate) fn party(&self) -> Option<Party> {
        match &self.principal {
            Principal::User(user) => Some(Party::User(user.clone())),
            Principal::ServiceFor(_) | Principal::Service => {
                Some(Party::Service(self.subject.clone()))
            }
            Principal::Operator => Some(Party::Operator(self.subject.clone())),
            Principal::Internal(_) => None,
        }
    }

    /// Whose its work is, where callers take turns.
    pub(crate) fn whose(&self) -> Whose {
        // What the suite does for a user is that user's.
        let party = self.party().or_else(|| self.user().cloned().map(Party::User));
        Whose { tenant: self.tenant_id.as_str().into(), caller: format!("{party:?}").into() }
    }

    /// The user whose rights count; `None` when the caller acts for the tenant.
    pub fn user(&self) -> Option<&UserId> {
        match &self.principal {
            Principal::User(user) | Principal::ServiceFor(user) => Some(user),
            Principal::Internal(user) => user.as_ref(),
            Principal::Service | Principal::Operator => None,
        }
    }

    /// A request id within the ids of its caller: a user's, or those of a backend that
    /// acts for the tenant.
    pub fn own(&self, request_id: RequestId) -> RequestId {
        match self.user() {
            Some(_) => request_id,
            None => request_id.of_backend(&self.subject),
        }
    }

    /// The user, where a call makes no sense without one.
    pub fn require_user(&self) -> Result<&UserId, Status> {
        self.user().ok_or_else(|| {
            Refusal::new(
                Reason::UserRequired,
                "the call needs a user: use a user token or name the user",
            )
            .into()
        })
    }
}

/// The caller of a public RPC.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller { principal: Principal::Internal(_), .. }) => {
            Err(Refusal::new(Reason::NotAllowed, "internal tokens are for internal services")
                .into())
        }
        Some(caller) => Ok(caller.clone()),
        None => Err(Refusal::new(Reason::TokenMissing, "no bearer token").into()),
    }
}

/// The caller of an RPC for operators of the installation.
pub fn operator<T>(request: &Request<T>) -> Result<Caller, Status> {
    match caller(request)? {
        caller @ Caller { principal: Principal::Operator, .. } => Ok(caller),
        _ => Err(Refusal::new(Reason::NotAllowed, "the call is for operators").into()),
    }
}

/// The caller of an internal RPC: another service of the suite.
pub fn internal<T>(request: &Request<T>) -> Result<Caller, Status> {
    of_suite(request.extensions()).cloned()
}

/// The caller that these extensions tell of, if it is another service of the suite.
pub(crate) fn of_suite(extensions: &Extensions) -> Result<&Caller, Status> {
    match extensions.get::<Caller>() {
        Some(caller @ Caller { principal: Principal::Internal(_), .. }) => Ok(caller),
        Some(_) => {
            Err(Refusal::new(Reason::NotAllowed, "the service is internal to the suite").into())
        }
        None => Err(Refusal::new(Reason::TokenMissing, "no bearer token").into()),
    }
}
