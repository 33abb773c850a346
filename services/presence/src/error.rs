//! Why a request fails.

use parlance_db::StoreError;
use parlance_rpc::{CallError, Failure, Late, Reason, Refusal, Violation, status};
use tonic::Status;

use crate::state::StateError;

/// Why the presence service refused or failed a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] Violation),

    #[error("the session has ended or was lost: open it again")]
    SessionNotFound,

    #[error("the user has sessions on too many devices")]
    TooManySessions,

    #[error("the caller has too many open presence streams")]
    TooManyStreams,

    #[error("too many presence streams are open")]
    Overloaded,

    #[error("the room has {members} members, more than are counted")]
    RoomTooLarge { members: i64 },

    #[error(transparent)]
    Call(#[from] CallError),

    #[error("could not reach the state of presence")]
    State(#[from] StateError),

    #[error(transparent)]
    Store(#[from] StoreError),

    #[error(transparent)]
    Late(#[from] Late),

    #[error("the service is shutting down")]
    Draining,

    #[error("the token expired")]
    TokenExpired,
}

impl Error {
    /// The refusal of a field.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Violation::new(field, rule).into()
    }
}

impl Failure for Error {
    fn reason(&self) -> Reason {
        match self {
            Self::Invalid(violation) => violation.reason(),
            Self::SessionNotFound => Reason::SessionNotFound,
            Self::TooManySessions => Reason::TooManySessions,
            Self::TooManyStreams => Reason::TooManyStreams,
            Self::Overloaded => Reason::Overloaded,
            Self::RoomTooLarge { .. } => Reason::RoomTooLarge,
            Self::Call(error) => error.reason(),
            Self::State(StateError::Impossible(_)) => Reason::Internal,
            Self::State(_) => Reason::PresenceUnavailable,
            Self::Store(error) => Reason::of_store(error.heals()),
            Self::Late(late) => late.reason(),
            Self::Draining => Reason::Draining,
            Self::TokenExpired => Reason::TokenExpired,
        }
    }

    fn detail(&self, refusal: Refusal) -> Refusal {
        match self {
            Self::Invalid(violation) => violation.detail(refusal),
            Self::Call(error) => error.detail(refusal),
            _ => refusal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(&error)
    }
}
