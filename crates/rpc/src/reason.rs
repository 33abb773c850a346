//! Why a call is refused: the reasons of `docs/errors.md`, and how they travel.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Violation;

/// The domain of every reason.
const DOMAIN: &str = "parlance";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $code:ident),+ $(,)?) => {
        /// Why a call was refused or failed. `docs/errors.md` documents each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The reason on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The code it comes with.
            pub const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code),+ }
            }

            /// The reason of this name.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    TokenMissing = "TOKEN_MISSING" => Unauthenticated,
    TokenInvalid = "TOKEN_INVALID" => Unauthenticated,
    TokenExpired = "TOKEN_EXPIRED" => Unauthenticated,
    /// Whether the token is good cannot be told: keys cannot be read.
    KeysUnavailable = "KEYS_UNAVAILABLE" => Unavailable,
    InvalidField = "INVALID_FIELD" => InvalidArgument,
    MessageTooLarge = "MESSAGE_TOO_LARGE" => InvalidArgument,
    /// The call makes no sense without a user.
    UserRequired = "USER_REQUIRED" => FailedPrecondition,
    RoomNotFound = "ROOM_NOT_FOUND" => NotFound,
    LogNotFound = "LOG_NOT_FOUND" => NotFound,
    UserNotFound = "USER_NOT_FOUND" => NotFound,
    MemberNotFound = "MEMBER_NOT_FOUND" => NotFound,
    MessageNotFound = "MESSAGE_NOT_FOUND" => NotFound,
    SessionNotFound = "SESSION_NOT_FOUND" => NotFound,
    NotAMember = "NOT_A_MEMBER" => PermissionDenied,
    NotAllowed = "NOT_ALLOWED" => PermissionDenied,
    NotTheSender = "NOT_THE_SENDER" => PermissionDenied,
    PostingRestricted = "POSTING_RESTRICTED" => PermissionDenied,
    PreviewNotAllowed = "PREVIEW_NOT_ALLOWED" => PermissionDenied,
    JoinRestricted = "JOIN_RESTRICTED" => PermissionDenied,
    RemovedFromRoom = "REMOVED_FROM_ROOM" => PermissionDenied,
    RoomIdTaken = "ROOM_ID_TAKEN" => AlreadyExists,
    UniqueIdTaken = "UNIQUE_ID_TAKEN" => AlreadyExists,
    RequestIdReused = "REQUEST_ID_REUSED" => AlreadyExists,
    MessageDeleted = "MESSAGE_DELETED" => FailedPrecondition,
    LastOwner = "LAST_OWNER" => FailedPrecondition,
    DirectRoom = "DIRECT_ROOM" => FailedPrecondition,
    RoomTooLarge = "ROOM_TOO_LARGE" => FailedPrecondition,
    FactGap = "FACT_GAP" => FailedPrecondition,
    EtagMismatch = "ETAG_MISMATCH" => Aborted,
    RoomFull = "ROOM_FULL" => ResourceExhausted,
    RateLimited = "RATE_LIMITED" => ResourceExhausted,
    /// The tenant as a whole, not one of its callers.
    TenantRateLimited = "TENANT_RATE_LIMITED" => ResourceExhausted,
    Overloaded = "OVERLOADED" => ResourceExhausted,
    TooManyStreams = "TOO_MANY_STREAMS" => ResourceExhausted,
    TooManySessions = "TOO_MANY_SESSIONS" => ResourceExhausted,
    StoreUnavailable = "STORE_UNAVAILABLE" => Unavailable,
    LogUnavailable = "LOG_UNAVAILABLE" => Unavailable,
    MembershipUnavailable = "MEMBERSHIP_UNAVAILABLE" => Unavailable,
    PresenceUnavailable = "PRESENCE_UNAVAILABLE" => Unavailable,
    Draining = "DRAINING" => Unavailable,
    DeadlineExceeded = "DEADLINE_EXCEEDED" => DeadlineExceeded,
    /// A bug of ours; logged with its cause.
    Internal = "INTERNAL" => Internal,
}

/// A refusal on its way to a caller. Becomes a `Status` with `google.rpc` details.
#[derive(Clone, Debug)]
pub struct Refusal(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    reason: Reason,
    message: String,
    field: Option<(String, String)>,
    retry_after: Option<Duration>,
    subject: Option<String>,
    metadata: HashMap<String, String>,
    /// What another service said, passed on as it is.
    relayed: Option<Status>,
}

/// The refusal of a field: INVALID_ARGUMENT naming it.
pub fn violation(field: impl Into<String>, rule: impl Into<String>) -> Refusal {
    let Violation { field, rule } = Violation::new(field, rule);
    Refusal::new(Reason::InvalidField, format!("{field} {rule}")).in_field(field, rule)
}

impl Refusal {
    /// A refusal for `reason`. The message is for people: concise, lowercase.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            reason,
            message: message.into(),
            field: None,
            retry_after: None,
            subject: None,
            metadata: HashMap::new(),
            relayed: None,
        }))
    }

    /// What another service refused, for its caller to see as it came: with its details,
    /// without the headers of that call.
    pub fn relayed(reason: Reason, status: &Status) -> Self {
        let mut refusal = Self::new(reason, status.message());
        let details = Bytes::copy_from_slice(status.details());
        refusal.0.relayed = Some(Status::with_details(status.code(), status.message(), details));
        refusal
    }

    /// Names the field, and what it must be (BadRequest).
    #[must_use]
    pub fn in_field(mut self, field: impl Into<String>, rule: impl Into<String>) -> Self {
        self.0.field = Some((field.into(), rule.into()));
        self
    }

    /// Says when to try again (RetryInfo).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Says whose quota is used up (QuotaFailure).
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = Some(subject.into());
        self
    }

    /// Adds metadata to the ErrorInfo.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.to_owned(), value.into());
        self
    }

    pub fn reason(&self) -> Reason {
        self.0.reason
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let Details { reason, message, field, retry_after, subject, metadata, relayed } =
            *refusal.0;
        if let Some(status) = relayed {
            return status;
        }
        let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, metadata);
        if let Some((field, rule)) = field {
            details.add_bad_request_violation(field, rule);
        }
        if let Some(delay) = retry_after {
            details.set_retry_info(Some(delay));
        }
        if reason.code() == Code::FailedPrecondition {
            details.add_precondition_failure_violation(reason.as_str(), "", &message);
        }
        if reason.code() == Code::ResourceExhausted {
            let subject = subject.as_deref().unwrap_or(reason.as_str());
            details.add_quota_failure_violation(subject, &message);
        }
        Self::with_error_details(reason.code(), message, details)
    }
}

impl Reason {
    /// The reason that a status of the suite carries.
    pub fn of(status: &Status) -> Option<Self> {
        status.get_details_error_info().and_then(|info| Self::parse(&info.reason))
    }
}
