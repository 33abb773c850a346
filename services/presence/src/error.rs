//! Why a request fails.

use parlance_rpc::Reason;
use tonic::Status;

use crate::state::StateError;

/// Why the presence service refused or failed a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that cannot be right.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },

    #[error("the session has ended or was lost: open it again")]
    SessionNotFound,

    #[error("the user has sessions on too many devices")]
    TooManySessions,

    #[error("the caller has too many open presence streams")]
    TooManyStreams,

    #[error("the room has {members} members, more than are counted")]
    RoomTooLarge { members: i64 },

    /// Another service refused, for a reason that concerns the caller.
    #[error("another service refused: {}", .0.message())]
    Refused(Box<Status>),

    #[error("could not reach the membership service")]
    Membership(#[source] Box<Status>),

    #[error("could not reach the room's log")]
    Log(#[source] Box<Status>),

    /// Another service called our request wrong: a bug of ours.
    #[error("another service did not understand the request")]
    Misunderstood(#[source] Box<Status>),

    #[error("could not reach the state of presence")]
    State(#[from] StateError),

    #[error("could not reach the presence store")]
    Store(#[from] sqlx::Error),

    #[error("the presence store did not answer in time")]
    StoreTimeout,

    #[error("the call took too long")]
    Deadline,

    #[error("the service is shutting down")]
    Draining,

    #[error("the token expired")]
    TokenExpired,
}

impl Error {
    /// The refusal of a field.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), rule: rule.into() }
    }

    /// The reason that the caller is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid { .. } => Reason::InvalidField,
            Self::SessionNotFound => Reason::SessionNotFound,
            Self::TooManySessions => Reason::TooManySessions,
            Self::TooManyStreams => Reason::TooManyStreams,
            Self::RoomTooLarge { .. } => Reason::RoomTooLarge,
            Self::Refused(status) => Reason::of(status).unwrap_or(Reason::Internal),
            Self::Membership(_) => Reason::MembershipUnavailable,
            Self::Log(_) => Reason::LogUnavailable,
            Self::State(StateError::Impossible(_)) | Self::Misunderstood(_) => Reason::Internal,
            Self::State(_) => Reason::PresenceUnavailable,
            Self::Store(error) if is_a_bug(error) => Reason::Internal,
            Self::Store(_) | Self::StoreTimeout => Reason::StoreUnavailable,
            Self::Deadline => Reason::DeadlineExceeded,
            Self::Draining => Reason::Draining,
            Self::TokenExpired => Reason::TokenExpired,
        }
    }
}

/// Whether the database is fine and what it was asked or answered is not.
fn is_a_bug(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::RowNotFound
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::TypeNotFound { .. }
    )
}
