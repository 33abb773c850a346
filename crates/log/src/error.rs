//! Why a request about a log fails.

use parlance_db::StoreError;
use parlance_rpc::{Failure, Late, Reason, Refusal, Violation, status};
use tonic::Status;

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that cannot be right.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },

    /// A reason of the contract, in words for people: a noun refuses for its own.
    #[error("{1}")]
    Refused(Reason, &'static str),

    #[error("facts must continue version {applied}")]
    FactGap { applied: i64 },

    #[error(transparent)]
    Store(#[from] StoreError),

    #[error("the message store did not answer in time")]
    StoreTimeout,

    /// A row that no code of ours could have written.
    #[error("impossible value in {table}.{column}")]
    Impossible { table: &'static str, column: &'static str },
}

impl Error {
    /// The refusal of a field, for what it must be.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), rule: rule.into() }
    }

    pub const fn room_not_found() -> Self {
        Self::Refused(Reason::RoomNotFound, "the room does not exist")
    }

    pub const fn message_not_found() -> Self {
        Self::Refused(Reason::MessageNotFound, "the message does not exist")
    }

    pub const fn not_a_member() -> Self {
        Self::Refused(Reason::NotAMember, "the caller is not a member of the room")
    }

    pub const fn draining() -> Self {
        Self::Refused(Reason::Draining, "the service is shutting down")
    }

    pub(crate) const fn log_not_found() -> Self {
        Self::Refused(Reason::LogNotFound, "the log does not exist")
    }

    pub(crate) const fn request_id_reused() -> Self {
        Self::Refused(Reason::RequestIdReused, "the request id was used with another payload")
    }
}

impl Failure for Error {
    fn reason(&self) -> Reason {
        match self {
            Self::Invalid { .. } => Reason::InvalidField,
            Self::Refused(reason, _) => *reason,
            Self::FactGap { .. } => Reason::FactGap,
            Self::Store(error) => Reason::of_store(error.is_bug()),
            Self::StoreTimeout => Reason::StoreUnavailable,
            Self::Impossible { .. } => Reason::Internal,
        }
    }

    fn detail(&self, refusal: Refusal) -> Refusal {
        match self {
            Self::Invalid { field, rule } => refusal.in_field(field, rule),
            Self::FactGap { applied } => refusal.with("applied", applied.to_string()),
            _ => refusal,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(&error)
    }
}

impl From<Violation> for Error {
    fn from(Violation { field, rule }: Violation) -> Self {
        Self::Invalid { field, rule }
    }
}

impl From<Late> for Error {
    fn from(_: Late) -> Self {
        let late = "the deadline passed before the answer was there";
        Self::Refused(Reason::DeadlineExceeded, late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_can_be_waited_for_and_an_answer_of_another_shape_cannot() {
        let decode = sqlx::Error::ColumnDecode { index: "role".into(), source: "no".into() };
        assert_eq!(Error::from(decode).reason(), Reason::Internal);
        assert_eq!(Error::from(sqlx::Error::PoolTimedOut).reason(), Reason::StoreUnavailable);
        assert_eq!(Error::StoreTimeout.reason(), Reason::StoreUnavailable);
    }
}
