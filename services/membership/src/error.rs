//! Why a request fails.

use std::time::Duration;

use parlance_outbox::DriveError;
use parlance_rpc::{Reason, Refusal, violation};
use sqlx::error::ErrorKind;
use tonic::Status;

use crate::domain::Refused;

/// When to try again what failed because a database or a service was away.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

/// Why the membership service refused or failed a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that cannot be right.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },

    #[error(transparent)]
    Refused(#[from] Refused),

    #[error("the log does not exist")]
    LogNotFound,

    #[error("the request id was used with another payload")]
    RequestIdReused,

    /// The change is committed; the relay finishes it.
    #[error("the change could not be written to the room's log yet")]
    Log(#[source] DriveError),

    #[error("could not reach the membership store")]
    Store(#[from] sqlx::Error),

    #[error("the request could not be finished in time")]
    TimedOut,

    /// A row that no code of ours could have written.
    #[error("impossible value in {table}.{column}")]
    Impossible { table: &'static str, column: &'static str },

    #[error("a task of the membership service failed")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), rule: rule.into() }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Invalid { .. } => Reason::InvalidField,
            Self::Refused(refused) => reason(refused),
            Self::LogNotFound => Reason::LogNotFound,
            Self::RequestIdReused => Reason::RequestIdReused,
            Self::Log(_) => Reason::LogUnavailable,
            Self::Store(error) if is_bug(error) => Reason::Internal,
            Self::Store(_) => Reason::StoreUnavailable,
            Self::TimedOut => Reason::DeadlineExceeded,
            Self::Impossible { .. } | Self::Task(_) => Reason::Internal,
        }
    }
}

const fn reason(refused: &Refused) -> Reason {
    match refused {
        Refused::RoomNotFound => Reason::RoomNotFound,
        Refused::UserNotFound { .. } => Reason::UserNotFound,
        Refused::MemberNotFound { .. } => Reason::MemberNotFound,
        Refused::NotAMember => Reason::NotAMember,
        Refused::NotAllowed(_) => Reason::NotAllowed,
        Refused::JoinRestricted => Reason::JoinRestricted,
        Refused::RemovedFromRoom => Reason::RemovedFromRoom,
        Refused::LastOwner => Reason::LastOwner,
        Refused::DirectRoom => Reason::DirectRoom,
        Refused::RoomFull { .. } => Reason::RoomFull,
        Refused::RoomIdTaken => Reason::RoomIdTaken,
    }
}

/// Whether an error of the store tells of our SQL, not of the database's health.
fn is_bug(error: &sqlx::Error) -> bool {
    match error {
        // A constraint that no request should reach.
        sqlx::Error::Database(error) => error.kind() != ErrorKind::Other,
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_)
        | sqlx::Error::RowNotFound
        | sqlx::Error::TypeNotFound { .. } => true,
        _ => false,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        match &error {
            Error::Invalid { field, rule } => return violation(field, rule).into(),
            // Logs may have refused for a reason that callers understand.
            Error::Log(DriveError::Refused(status)) if is_taken(status) => {
                return Refusal::new(Reason::RoomIdTaken, "another open room holds the id").into();
            }
            Error::Log(cause) => {
                tracing::warn!(error = cause as &dyn std::error::Error, "facts wait");
            }
            Error::Store(_) | Error::Impossible { .. } | Error::Task(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "request failed");
            }
            _ => {}
        }
        let mut refusal = match reason {
            // What it was stands in the service's own log only.
            Reason::Internal => Refusal::new(reason, "internal error"),
            Reason::StoreUnavailable | Reason::LogUnavailable => {
                Refusal::new(reason, error.to_string()).retry_after(AFTER_OUTAGE)
            }
            _ => Refusal::new(reason, error.to_string()),
        };
        if let Error::Refused(
            Refused::UserNotFound { user_id } | Refused::MemberNotFound { user_id },
        ) = &error
        {
            refusal = refusal.with("user_id", user_id);
        }
        refusal.into()
    }
}

fn is_taken(status: &Status) -> bool {
    Reason::of(status) == Some(Reason::RoomIdTaken)
}
