//! Why a request about a log fails.

use std::time::Duration;

use parlance_bus::HighWaterError;
use parlance_db::StoreError;
use parlance_rpc::{Cut, Failure, Late, Reason, Refusal, Violation, status};
use parlance_types::{MessageId, Micros, Seq};
use tonic::Status;

use crate::{FOR_EVER, codec};

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that cannot be right.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },

    /// A reason of the contract, in words for people: a noun refuses for its own.
    #[error("{1}")]
    Refused(Reason, &'static str),

    /// The same, with what the reason alone does not say: names, and what they stand for.
    #[error("{1}")]
    RefusedWith(Reason, &'static str, Vec<(&'static str, String)>),

    /// The same of a field, for what it has.
    #[error("{1} {2}")]
    RefusedField(Reason, &'static str, &'static str),

    /// A position before the first event that is left.
    #[error("the room begins at {first} by now")]
    Pruned { first: Seq },

    #[error("the caller is muted in the room")]
    Muted { until: Micros },

    #[error("the room is in slow mode, and the caller's last message too recent")]
    SlowMode { wait: Duration },

    #[error("the caller is suspended")]
    Suspended { until: Micros },

    /// As much as anybody may have.
    #[error("the caller may have at most {most} {limit}")]
    QuotaExceeded { limit: &'static str, most: i64 },

    /// Bytes that do not go on where the upload stands.
    #[error("the upload stands at {arrived}, or another stream goes on with it")]
    UploadOffset { arrived: i64 },

    #[error("facts must continue version {applied}")]
    FactGap { applied: i64 },

    #[error(transparent)]
    Store(#[from] StoreError),

    /// Whether the database was put back to an older copy is not known.
    #[error("cannot compare the database with its high-water mark")]
    HighWater(#[from] HighWaterError),

    #[error(transparent)]
    Cut(#[from] Cut),
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

    pub const fn attachment_not_found() -> Self {
        Self::Refused(Reason::AttachmentNotFound, "the attachment does not exist")
    }

    pub(crate) const fn attachment_in_use() -> Self {
        Self::Refused(Reason::AttachmentInUse, "a message holds the attachment already")
    }

    pub const fn blocked() -> Self {
        Self::Refused(Reason::Blocked, "the other member of the room has blocked the caller")
    }

    pub const fn not_a_member() -> Self {
        Self::Refused(Reason::NotAMember, "the caller is not a member of the room")
    }

    /// The failure of a database that has not answered within `limit`.
    pub fn late(limit: Duration) -> Self {
        Self::Store(StoreError::late(limit))
    }

    /// The failure of an event that cannot be decoded.
    pub fn unreadable(event: MessageId) -> Self {
        let (table, column, row) = ("events", "payload", event.to_string());
        Self::Store(StoreError::Impossible { table, column, row })
    }

    /// The failure of what is found changed with every look.
    pub fn restless() -> Self {
        Self::Store(StoreError::away("it changed with every look"))
    }

    pub const fn draining() -> Self {
        Self::Refused(Reason::Draining, "the service is shutting down")
    }

    /// Whether it is an answer to what was asked, and not a failure to find one.
    pub(crate) const fn is_refusal(&self) -> bool {
        !matches!(self, Self::Store(_) | Self::HighWater(_) | Self::Cut(_))
    }

    pub(crate) const fn log_not_found() -> Self {
        Self::Refused(Reason::LogNotFound, "the log does not exist")
    }

    pub const fn request_id_reused() -> Self {
        Self::Refused(Reason::RequestIdReused, "the request id was used with another payload")
    }
}

impl Failure for Error {
    fn reason(&self) -> Reason {
        match self {
            Self::Invalid { .. } => Reason::InvalidField,
            Self::Refused(reason, _)
            | Self::RefusedWith(reason, ..)
            | Self::RefusedField(reason, ..) => *reason,
            Self::Pruned { .. } => Reason::PositionPruned,
            Self::Muted { .. } => Reason::Muted,
            Self::Suspended { .. } => Reason::Suspended,
            Self::SlowMode { .. } => Reason::SlowMode,
            Self::QuotaExceeded { .. } => Reason::QuotaExceeded,
            Self::UploadOffset { .. } => Reason::UploadOffset,
            Self::FactGap { .. } => Reason::FactGap,
            Self::Store(error) => Reason::of_store(error.heals()),
            Self::HighWater(_) => Reason::of_store(true),
            Self::Cut(cut) => cut.reason(),
        }
    }

    fn detail(&self, refusal: Refusal) -> Refusal {
        match self {
            Self::Invalid { field, rule } => refusal.in_field(field, rule),
            Self::RefusedField(_, field, rule) => refusal.in_field(*field, *rule),
            Self::RefusedWith(_, _, said) => said
                .iter()
                .fold(refusal, |refusal, (name, value)| refusal.with(name, value.as_str())),
            Self::Pruned { first } => refusal.with("first_seq", first.to_string()),
            Self::Muted { until } | Self::Suspended { until } if *until < FOR_EVER => {
                refusal.with("until", codec::timestamp(*until).to_string())
            }
            Self::SlowMode { wait } => refusal.retry_after(*wait),
            Self::QuotaExceeded { limit, most } => {
                refusal.with("limit", *limit).with("most", most.to_string())
            }
            Self::UploadOffset { arrived } => refusal.with("arrived", arrived.to_string()),
            Self::FactGap { applied } => refusal.with("applied", applied.to_string()),
            _ => refusal,
        }
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
