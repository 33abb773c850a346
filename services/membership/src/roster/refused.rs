//! Why changes of rosters, and looks at them, are refused.

use parlance_types::{Micros, UserId};

use super::Pending;

/// Why a change or a look is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the room does not exist")]
    RoomNotFound,

    #[error("the user {user_id:?} does not exist")]
    UserNotFound { user_id: String },

    #[error("the user {user_id:?} is not a member of the room")]
    MemberNotFound { user_id: String },

    #[error("the caller is not a member of the room")]
    NotAMember,

    #[error("{0}")]
    NotAllowed(&'static str),

    #[error("members of this room are added or ask to be let in, they cannot join")]
    JoinRestricted,

    #[error("the room is none of those in which users ask to be let in")]
    TakesNoRequests,

    #[error("the user was removed from the room and can only be added again")]
    RemovedFromRoom,

    #[error("the user {user_id:?} is banned from the room")]
    Banned { user_id: String, until: Option<Micros> },

    #[error("{}", suspended(user_id.as_deref()))]
    Suspended { user_id: Option<String>, until: Option<Micros> },

    #[error("a user may block {MAX_BLOCKS} users, by calls and by the default list together")]
    TooManyBlocks,

    #[error("the list is the default: decline it first")]
    PrivacyListInUse,

    #[error("the caller has no list of this name")]
    PrivacyListNotFound,

    #[error("the caller has as many privacy lists as a user may")]
    TooManyPrivacyLists,

    #[error("the room would be left without an owner: name a successor")]
    LastOwner,

    #[error("the members of a direct room do not change")]
    DirectRoom,

    #[error("the members of a live room are those whose devices are in it")]
    LiveRoom,

    #[error("in a broadcast is every user of the tenant, and no members are kept")]
    BroadcastRoom,

    #[error("the user is in {max_rooms} live rooms, and may be in no more")]
    RoomLimit { max_rooms: i64 },

    #[error("the device is not in the room that it shall leave")]
    SeatNotFound,

    /// Which limit of the tenant, and what it is.
    #[error("the tenant may have no more: its limit of {limit} is {most}")]
    QuotaExceeded { limit: &'static str, most: i64 },

    #[error("the room takes at most {capacity} members")]
    RoomFull { capacity: i32 },

    #[error("another open room holds the id")]
    RoomIdTaken,

    #[error("the user is not invited into the room")]
    InvitationNotFound,

    #[error("the user {user_id:?} has not asked to join the room")]
    RequestNotFound { user_id: String },

    /// A room, or a user in all rooms, has as many as it may.
    #[error("{} waits for as many answers as it may", of_whom(user_id.as_ref()))]
    TooManyPending { kind: Pending, user_id: Option<UserId> },

    #[error("there is no such link, or it has ended")]
    LinkNotFound,

    #[error("the room has as many links as it may")]
    TooManyLinks,
}

fn of_whom(user_id: Option<&UserId>) -> String {
    user_id.map_or("the room".to_owned(), |user_id| format!("the user {:?}", user_id.as_str()))
}

/// How many users somebody may block.
pub(crate) const MAX_BLOCKS: i64 = 1000;

fn suspended(user_id: Option<&str>) -> String {
    match user_id {
        Some(user_id) => format!("the user {user_id:?} is suspended"),
        None => "the caller is suspended".to_owned(),
    }
}

impl Refused {
    pub(crate) fn no_user(user_id: &UserId) -> Self {
        Self::UserNotFound { user_id: user_id.as_str().to_owned() }
    }

    pub(crate) fn no_member(user_id: &UserId) -> Self {
        Self::MemberNotFound { user_id: user_id.as_str().to_owned() }
    }

    pub(crate) fn no_request(user_id: &UserId) -> Self {
        Self::RequestNotFound { user_id: user_id.as_str().to_owned() }
    }
}
