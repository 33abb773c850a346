//! Why streams fail.

use std::sync::Arc;

use parlance_types::Micros;

/// The log could not be read; not an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not read the log")]
pub struct Unavailable(#[source] Arc<parlance_log::Error>);

impl Unavailable {
    /// Why the log could not be read.
    pub fn error(&self) -> &parlance_log::Error {
        &self.0
    }
}

impl From<parlance_log::Error> for Unavailable {
    fn from(error: parlance_log::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Why a stream may not follow a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the room does not exist")]
    RoomNotFound,
    #[error("the caller is not a member of the room")]
    NotAMember,
    #[error("the caller is suspended")]
    Suspended { until: Micros },
}

/// Why a room is not attached to a stream.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NotAttached {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a stream failed.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("the token expired")]
    TokenExpired,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The user, those who act for nobody in the tenant, or the service that asks, have as many
/// open streams as are allowed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many streams are open")]
pub struct TooManyStreams;
