//! Why a request fails.

use parlance_rpc::Reason;
use tonic::{Code, Status};

/// Why the room service refused or failed a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that cannot be right.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },

    #[error("the call needs a user: use a user token or name the user")]
    UserRequired,

    #[error("the room does not exist")]
    RoomNotFound,

    #[error("the caller is not a member of the room")]
    NotAMember,

    /// Says who may.
    #[error("{0}")]
    NotAllowed(&'static str),

    #[error("members of the channel are added only")]
    JoinRestricted,

    #[error("a direct room has nothing to update")]
    DirectRoom,

    #[error("the room changed since it was read")]
    EtagMismatch,

    #[error("a room with this id exists")]
    RoomIdTaken,

    #[error("a channel with this unique id exists")]
    UniqueIdTaken,

    #[error("the request id was used with another payload")]
    RequestIdReused,

    /// The membership service refused, for a reason that concerns the caller.
    #[error("the membership service refused: {}", .0.message())]
    Refused(Box<Status>),

    /// The membership service knows no such roster.
    #[error("the roster does not exist")]
    NoRoster,

    #[error("could not reach the membership service")]
    Membership(#[source] Box<Status>),

    #[error("could not reach the room's log")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// Another service called our request wrong: a bug of ours.
    #[error("another service did not understand the request")]
    Misunderstood(#[source] Box<Status>),

    #[error("the creation of the room was given up, try again")]
    GivenUp,

    #[error("the call took too long")]
    Deadline,

    #[error("could not reach the room store")]
    Store(#[from] sqlx::Error),

    /// A row that no code of ours could have written.
    #[error("impossible value in {table}.{column} of {row}")]
    Impossible { table: &'static str, column: &'static str, row: String },

    #[error("the work on the request was cut short")]
    Cut(#[source] tokio::task::JoinError),
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
            Self::UserRequired => Reason::UserRequired,
            Self::RoomNotFound | Self::NoRoster => Reason::RoomNotFound,
            Self::NotAMember => Reason::NotAMember,
            Self::NotAllowed(_) => Reason::NotAllowed,
            Self::JoinRestricted => Reason::JoinRestricted,
            Self::DirectRoom => Reason::DirectRoom,
            Self::EtagMismatch => Reason::EtagMismatch,
            Self::RoomIdTaken => Reason::RoomIdTaken,
            Self::UniqueIdTaken => Reason::UniqueIdTaken,
            Self::RequestIdReused => Reason::RequestIdReused,
            Self::Refused(status) => Reason::of(status).unwrap_or(Reason::Internal),
            Self::Membership(_) | Self::GivenUp => Reason::MembershipUnavailable,
            Self::Log(_) => Reason::LogUnavailable,
            Self::Deadline => Reason::DeadlineExceeded,
            Self::Store(error) if is_a_bug(error) => Reason::Internal,
            Self::Store(_) => Reason::StoreUnavailable,
            Self::Misunderstood(_) | Self::Impossible { .. } | Self::Cut(_) => Reason::Internal,
        }
    }

    /// Whether the caller is told no; otherwise something does not work.
    pub fn is_refusal(&self) -> bool {
        let code = self.reason().code();
        !matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Internal)
    }

    /// Whether a room whose roster was refused like this can never be opened.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused(_) => !matches!(self.reason(), Reason::RateLimited | Reason::Overloaded),
            Self::Misunderstood(_) => true,
            _ => false,
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
