//! Where sessions live: in memory or in Redis. Both may be lost at any time, and
//! both say so. The suite in [`conformance`] holds them equal.

#[cfg(feature = "testing")]
pub mod conformance;
mod memory;
mod redis;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

pub use self::memory::MemorySessions;
pub use self::redis::RedisSessions;

use crate::session::{Device, Session, User};
use parlance_types::SessionId;

/// A user has at most so many sessions.
pub const MAX_SESSIONS: usize = 20;

/// How many sessions that have ended are given out at once, of each part of the state: so few
/// that whoever takes them from all parts can tell of them before others get them.
pub const ENDED: usize = 50;

/// How the loss of state is noticed.
#[derive(Clone, Copy, Debug)]
pub struct Doubt {
    /// After so long without a sign of life leases may have ended through nobody's
    /// fault: nobody could renew them.
    pub gap: Duration,
    /// For so long after that, or after the state came up empty, who has no session
    /// may still have one: the longest lease.
    pub lasts: Duration,
}

/// What became of a session that was to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The id of the session: that of the one which it replaces, if that lives.
    Done(SessionId),
    /// The user has [`MAX_SESSIONS`] on other devices.
    TooMany,
}

/// The sessions of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In the order in which they were opened or replaced last.
    pub sessions: Vec<Session>,
    /// Whether these are all; otherwise some may have been lost.
    pub complete: bool,
}

/// A session by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    pub device: Device,
    pub id: SessionId,
}

/// The state could not be asked; not an answer.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("redis failed")]
    Redis(#[from] ::redis::RedisError),
    #[error("redis did not answer in time")]
    Timeout,
    /// A value that no code of ours could have written.
    #[error("impossible value in a session's {0}")]
    Impossible(&'static str),
}

/// Sessions, each under a lease: one that is not renewed in time is gone, on every
/// node at once, whoever opened it.
///
/// Every operation is atomic, and idempotent: it may be repeated after an unknown
/// outcome. An operation that cannot reach the state fails; it never answers "none".
#[async_trait]
pub trait Sessions: Debug + Send + Sync {
    /// Opens a session, under the id `fresh`, or replaces what is said of the one that lives;
    /// its lease begins anew.
    async fn open(
        &self,
        device: &Device,
        session: &Session,
        fresh: &SessionId,
    ) -> Result<Opened, StateError>;

    /// Lets the lease of a session begin anew. `None`: there is no such session.
    async fn renew(&self, device: &Device) -> Result<Option<(SessionId, Session)>, StateError>;

    /// Ends a session, if there is one.
    async fn close(&self, device: &Device) -> Result<(), StateError>;

    /// The sessions of users, in their order. `None`: the part of the state that holds
    /// this user cannot be reached, while others can. Fails if none can.
    async fn of_users(&self, users: &[User]) -> Result<Vec<Option<Seen>>, StateError>;

    /// Some of the sessions that have ended, by their lease or closed, and were not
    /// [forgotten](Self::forget) yet. Nobody gets them again for as long as `hold`, then
    /// somebody does. None while sessions may have ended because nobody could renew them.
    /// Fails only if no part of the state can be reached.
    async fn ended(&self, hold: Duration) -> Result<Vec<Named>, StateError>;

    /// Those who had to hear of the end of these sessions have.
    async fn forget(&self, ended: &[Named]) -> Result<(), StateError>;

    /// Those of the sessions that are not there any more, or never were. None of them may
    /// have been lost; where the state cannot tell, it names none.
    async fn gone(&self, sessions: Vec<Named>) -> Result<Vec<Named>, StateError>;

    /// How many sessions live, of all users; those whose end is just being told may count, too.
    /// Fails if a part of the state cannot be reached.
    async fn count(&self) -> Result<u64, StateError>;

    /// A sign of life: leases can be renewed. Some node must give one more often than
    /// the gap of [`Doubt`].
    async fn pulse(&self) -> Result<(), StateError>;
}

impl Default for Doubt {
    fn default() -> Self {
        Self { gap: Duration::from_secs(5), lasts: Duration::from_mins(1) }
    }
}
