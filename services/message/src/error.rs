//! Why a request fails.

use parlance_types::Seq;

/// Why the message service refused or failed a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that cannot be right.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },

    #[error("the room does not exist")]
    RoomNotFound,

    #[error("the message does not exist")]
    MessageNotFound,

    #[error("the caller is not a member of the room")]
    NotAMember,

    #[error("the room's rules let only owners and admins send")]
    PostingRestricted,

    #[error("the room does not allow previews")]
    PreviewNotAllowed,

    #[error("only the sender may do this")]
    NotTheSender,

    #[error("the message was deleted")]
    MessageDeleted,

    #[error("the request id was used with another payload")]
    RequestIdReused,

    #[error("facts must continue version {applied}")]
    FactGap { applied: i64 },

    #[error("the log does not exist")]
    LogNotFound,

    #[error("another open room holds the id")]
    RoomIdTaken,

    /// A mark beyond the end of the log.
    #[error("seq must not be beyond the head, which is {head}")]
    BeyondHead { head: Seq },

    #[error("too many requests are waiting to be written")]
    Overloaded,

    #[error("the service is shutting down")]
    Draining,

    #[error("could not reach the message store")]
    Store(#[from] sqlx::Error),

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
}
