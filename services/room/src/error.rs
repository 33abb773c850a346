//! Why a request fails.

use parlance_db::StoreError;
use parlance_outbox::DriveError;
use parlance_rpc::{CallError, Cut, Failure, Late, Reason, Refusal, Violation, status};
use tonic::Status;

/// Why the room service refused or failed a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] Violation),

    #[error("the call needs a user: use a user token or name the user")]
    UserRequired,

    #[error("the room does not exist")]
    RoomNotFound,

    /// The membership service knows no such roster.
    #[error("the room does not exist")]
    NoRoster,

    #[error("the caller is not a member of the room")]
    NotAMember,

    /// Says who may.
    #[error("{0}")]
    NotAllowed(&'static str),

    #[error("members of the channel are added, or ask to be let in")]
    JoinRestricted,

    #[error("a direct room has nothing to update")]
    DirectRoom,

    #[error("the room changed since it was read")]
    EtagMismatch,

    #[error("the key {key:?} may not be changed like this")]
    KeyRefused { key: String, refusal: &'static str },

    #[error("metadata has at most 32 keys and 8192 bytes")]
    MetadataFull,

    #[error("the device is not in the room that it shall leave")]
    SeatNotFound,

    /// Which limit of the tenant, and what it is.
    #[error("the tenant may have no more: its limit of {limit} is {most}")]
    QuotaExceeded { limit: &'static str, most: i64 },

    #[error("a tenant has at most 20 broadcasts")]
    TooManyBroadcasts,

    #[error("a room with this id exists")]
    RoomIdTaken,

    #[error("a channel with this unique id exists")]
    UniqueIdTaken,

    #[error("the request id was used with another payload")]
    RequestIdReused,

    #[error(transparent)]
    Call(#[from] CallError),

    #[error("could not reach the room's log")]
    Log(#[source] Box<DriveError>),

    #[error("the creation of the room was given up, try again")]
    GivenUp,

    #[error(transparent)]
    Late(#[from] Late),

    #[error(transparent)]
    Store(#[from] StoreError),

    #[error(transparent)]
    Cut(#[from] Cut),
}

impl Error {
    /// The refusal of a field.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Violation::new(field, rule).into()
    }

    /// Whether a room whose roster was refused like this can never be opened.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Call(CallError::Refused(_)) => {
                !matches!(self.reason(), Reason::RateLimited | Reason::Overloaded)
            }
            Self::Call(CallError::Misunderstood { .. }) => true,
            _ => false,
        }
    }
}

impl Failure for Error {
    fn reason(&self) -> Reason {
        match self {
            Self::Invalid(violation) => violation.reason(),
            Self::UserRequired => Reason::UserRequired,
            Self::RoomNotFound | Self::NoRoster => Reason::RoomNotFound,
            Self::NotAMember => Reason::NotAMember,
            Self::NotAllowed(_) => Reason::NotAllowed,
            Self::JoinRestricted => Reason::JoinRestricted,
            Self::DirectRoom => Reason::DirectRoom,
            Self::EtagMismatch => Reason::EtagMismatch,
            Self::KeyRefused { .. } => Reason::MetadataConflict,
            Self::MetadataFull => Reason::MetadataFull,
            Self::SeatNotFound => Reason::SeatNotFound,
            Self::QuotaExceeded { .. } => Reason::QuotaExceeded,
            Self::TooManyBroadcasts => Reason::TooManyBroadcasts,
            Self::RoomIdTaken => Reason::RoomIdTaken,
            Self::UniqueIdTaken => Reason::UniqueIdTaken,
            Self::RequestIdReused => Reason::RequestIdReused,
            Self::Call(error) => error.reason(),
            Self::Log(error) if error.heals() => Reason::LogUnavailable,
            Self::Log(_) => Reason::Internal,
            Self::GivenUp => Reason::MembershipUnavailable,
            Self::Late(late) => late.reason(),
            Self::Store(error) => Reason::of_store(error.heals()),
            Self::Cut(cut) => cut.reason(),
        }
    }

    fn detail(&self, refusal: Refusal) -> Refusal {
        match self {
            Self::Invalid(violation) => violation.detail(refusal),
            Self::KeyRefused { key, refusal: why } => {
                refusal.with("key", key).with("refusal", *why)
            }
            Self::QuotaExceeded { limit, most } => {
                refusal.with("limit", *limit).with("most", most.to_string())
            }
            Self::Call(error) => error.detail(refusal),
            _ => refusal,
        }
    }
}

impl From<DriveError> for Error {
    fn from(error: DriveError) -> Self {
        match error {
            DriveError::Store(error) => Self::Store(error),
            error => Self::Log(Box::new(error)),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(&error)
    }
}
