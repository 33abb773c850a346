//! Why a request fails.

use parlance_db::StoreError;
use parlance_outbox::DriveError;
use parlance_rpc::{Cut, Failure, Late, Reason, Refusal, Violation, status};
use parlance_types::Micros;
use tonic::Status;

use crate::codec;
use crate::roster::{Pending, Refused};

/// Why the membership service refused or failed a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A field that cannot be right.
    #[error(transparent)]
    Invalid(#[from] Violation),

    #[error(transparent)]
    Refused(#[from] Refused),

    #[error("the log does not exist")]
    LogNotFound,

    #[error("the request id was used with another payload")]
    RequestIdReused,

    /// The change is committed; the relay finishes it.
    #[error("the change could not be written to the room's log yet")]
    Log(#[source] DriveError),

    #[error(transparent)]
    Store(#[from] StoreError),

    #[error(transparent)]
    Late(#[from] Late),

    #[error(transparent)]
    Cut(#[from] Cut),
}

impl Error {
    /// Logs may have refused for a reason that callers understand.
    pub(crate) fn of_log(error: DriveError) -> Self {
        match error.reason() {
            Some(Reason::RoomIdTaken) => Refused::RoomIdTaken.into(),
            _ => Self::Log(error),
        }
    }
}

impl Failure for Error {
    fn reason(&self) -> Reason {
        match self {
            Self::Invalid(violation) => violation.reason(),
            Self::Refused(refused) => reason(refused),
            Self::LogNotFound => Reason::LogNotFound,
            Self::RequestIdReused => Reason::RequestIdReused,
            Self::Log(error) if error.heals() => Reason::LogUnavailable,
            Self::Log(_) => Reason::Internal,
            Self::Store(error) => Reason::of_store(error.heals()),
            Self::Late(late) => late.reason(),
            Self::Cut(cut) => cut.reason(),
        }
    }

    fn detail(&self, refusal: Refusal) -> Refusal {
        match self {
            Self::Invalid(violation) => violation.detail(refusal),
            Self::Refused(
                Refused::UserNotFound { user_id }
                | Refused::MemberNotFound { user_id }
                | Refused::RequestNotFound { user_id },
            ) => refusal.with("user_id", user_id),
            Self::Refused(Refused::TooManyPending { user_id: Some(user_id), .. }) => {
                refusal.with("user_id", user_id.as_str())
            }
            Self::Refused(Refused::Banned { user_id, until }) => {
                kept_out(refusal, Some(user_id), *until)
            }
            Self::Refused(Refused::Suspended { user_id, until }) => {
                kept_out(refusal, user_id.as_ref(), *until)
            }
            Self::Refused(Refused::QuotaExceeded { limit, most }) => {
                refusal.with("limit", *limit).with("most", most.to_string())
            }
            _ => refusal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(&error)
    }
}

/// Names who is kept out, unless it is the caller, and until when, unless it is for ever.
fn kept_out(refusal: Refusal, user_id: Option<&String>, until: Option<Micros>) -> Refusal {
    let refusal = match user_id {
        Some(user_id) => refusal.with("user_id", user_id),
        None => refusal,
    };
    match until {
        Some(until) => refusal.with("until", codec::timestamp(until).to_string()),
        None => refusal,
    }
}

const fn reason(refused: &Refused) -> Reason {
    match refused {
        Refused::RoomNotFound => Reason::RoomNotFound,
        Refused::UserNotFound { .. } => Reason::UserNotFound,
        Refused::MemberNotFound { .. } => Reason::MemberNotFound,
        Refused::NotAMember => Reason::NotAMember,
        Refused::NotAllowed(_) => Reason::NotAllowed,
        Refused::JoinRestricted | Refused::TakesNoRequests => Reason::JoinRestricted,
        Refused::RemovedFromRoom => Reason::RemovedFromRoom,
        Refused::Banned { .. } => Reason::Banned,
        Refused::Suspended { .. } => Reason::Suspended,
        Refused::TooManyBlocks | Refused::TooManyPrivacyLists => Reason::TooManyBlocks,
        Refused::PrivacyListInUse => Reason::PrivacyListInUse,
        Refused::PrivacyListNotFound => Reason::PrivacyListNotFound,
        Refused::QuotaExceeded { .. } => Reason::QuotaExceeded,
        Refused::LastOwner => Reason::LastOwner,
        Refused::DirectRoom => Reason::DirectRoom,
        Refused::RoomFull { .. } => Reason::RoomFull,
        Refused::LiveRoom => Reason::LiveRoom,
        Refused::BroadcastRoom => Reason::BroadcastRoom,
        Refused::RoomLimit { .. } => Reason::RoomLimit,
        Refused::SeatNotFound => Reason::SeatNotFound,
        Refused::RoomIdTaken => Reason::RoomIdTaken,
        Refused::InvitationNotFound => Reason::InvitationNotFound,
        Refused::RequestNotFound { .. } => Reason::JoinRequestNotFound,
        Refused::TooManyPending { kind: Pending::Invitation, .. } => Reason::TooManyInvitations,
        Refused::TooManyPending { kind: Pending::Request, .. } => Reason::TooManyJoinRequests,
        Refused::LinkNotFound => Reason::InviteLinkNotFound,
        Refused::TooManyLinks => Reason::TooManyInviteLinks,
    }
}
