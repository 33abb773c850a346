//! Calls to the services below, membership and message.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use parlance_types::{TenantId, UserId};
use tonic::{Code, Request, Response, Status};

use crate::{Deadline, Failure, Internal, Reason, Refusal};

/// How long one try of a call may take.
const TRY: Duration = Duration::from_secs(3);

/// The tenant that a call names which is of none, and at which nobody looks there.
pub fn of_no_tenant() -> TenantId {
    TenantId::new("none")
}

/// Tries after the first.
const RETRIES: usize = 2;

/// A service below, as the caller of this one knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    Membership,
    /// Message, which owns the logs.
    Log,
}

impl Below {
    const fn name(self) -> &'static str {
        match self {
            Self::Membership => "the membership service",
            Self::Log => "the room's log",
        }
    }

    const fn is_away(self) -> Reason {
        match self {
            Self::Membership => Reason::MembershipUnavailable,
            Self::Log => Reason::LogUnavailable,
        }
    }
}

/// A client of a service below. Every call is idempotent: one that an outage hit is
/// tried again, three times in all, each try bounded and all within the deadline.
#[derive(Clone, Debug)]
pub struct Peer<C> {
    client: C,
    below: Below,
    internal: Internal,
    passes: &'static [Reason],
}

/// Why a call to a service below failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It refused, for a reason that concerns the caller of this service.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    #[error("could not reach {}", below.name())]
    Away { below: Below, reason: Reason, source: Box<Status> },
    /// It failed in a way that does not heal by itself.
    #[error("{} failed", below.name())]
    Failed { below: Below, source: Box<Status> },
    /// Our request was wrong: a bug of ours.
    #[error("{} did not understand the request", below.name())]
    Misunderstood { below: Below, source: Box<Status> },
}

impl CallError {
    /// The answer of the service, or what stands for it.
    pub fn status(&self) -> &Status {
        match self {
            Self::Refused(status)
            | Self::Away { source: status, .. }
            | Self::Failed { source: status, .. }
            | Self::Misunderstood { source: status, .. } => status,
        }
    }

    /// The reason that the service gave.
    pub fn given(&self) -> Option<Reason> {
        Reason::of(self.status())
    }
}

impl Failure for CallError {
    fn reason(&self) -> Reason {
        match self {
            Self::Refused(status) => Reason::of(status).unwrap_or(Reason::Internal),
            Self::Away { reason, .. } => *reason,
            Self::Failed { .. } | Self::Misunderstood { .. } => Reason::Internal,
        }
    }

    fn detail(&self, refusal: Refusal) -> Refusal {
        match self {
            Self::Refused(status) => Refusal::relayed(self.reason(), status),
            _ => refusal,
        }
    }
}

impl<C: Clone> Peer<C> {
    /// Calls `below` through `client`. What it refuses for one of the reasons that pass
    /// is told to the caller of this service as it came.
    pub const fn new(
        below: Below,
        client: C,
        internal: Internal,
        passes: &'static [Reason],
    ) -> Self {
        Self { client, below, internal, passes }
    }

    /// Calls a method on behalf of a user of the tenant, or of the tenant itself:
    /// `peer.call(.., request, |mut client, request| async move { client.rpc(request).await })`.
    pub async fn call<M, R, F, W>(
        &self,
        tenant_id: &TenantId,
        actor: Option<&UserId>,
        deadline: Deadline,
        message: M,
        rpc: F,
    ) -> Result<R, CallError>
    where
        M: Clone,
        F: Fn(C, Request<M>) -> W,
        W: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = || async {
            let bound = deadline.left().min(TRY);
            let request = self.internal.request(tenant_id, actor, bound, message.clone());
            let reply = tokio::time::timeout(bound, rpc(self.client.clone(), request)).await;
            let late = || Status::unavailable("the service did not answer in time");
            reply.unwrap_or_else(|_| Err(late())).map(Response::into_inner)
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_millis(500))
            .with_max_times(RETRIES)
            .with_jitter();
        let outage =
            |status: &Status| status.code() == Code::Unavailable && !deadline.left().is_zero();
        attempt.retry(backoff).when(outage).await.map_err(|status| self.failed(status))
    }

    /// An answer that the contract does not allow.
    pub fn strange(&self, what: &str) -> CallError {
        let source = Box::new(Status::internal(what));
        CallError::Misunderstood { below: self.below, source }
    }

    fn failed(&self, status: Status) -> CallError {
        let (below, source) = (self.below, Box::new(status));
        match (Reason::of(&source), source.code()) {
            (Some(reason), _) if self.passes.contains(&reason) => CallError::Refused(source),
            // What is away is the service below that.
            (Some(reason @ Reason::LogUnavailable), _) => {
                CallError::Away { below: Below::Log, reason, source }
            }
            // Said by the service: a connection that breaks may have the same code.
            (Some(Reason::Internal), _) => CallError::Failed { below, source },
            (_, Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange) => {
                CallError::Misunderstood { below, source }
            }
            _ => CallError::Away { below, reason: below.is_away(), source },
        }
    }
}
