//! Sessions: a device of a user, under a lease.

mod grpc;
mod last_seen;
mod store;

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parlance_rpc::{Deadline, Failure as _, Reason};
use parlance_types::{Resource, SessionId, TenantId, UserId};

pub use grpc::SessionGrpc;
pub(crate) use last_seen::LastSeen;
pub(crate) use store::{SEEN_EVERY, Store};

use crate::clients::Rosters;
use crate::state::{Opened, Sessions};
use crate::{Error, Leases};

/// The longest status, in bytes.
const MAX_STATUS: usize = 64;

/// A user of a tenant.
pub type User = (TenantId, UserId);

/// What a user says with a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status(String);

/// How long a session lives after each renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(Duration);

/// What a field of a session must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSession(String);

/// A device of a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    pub user: User,
    pub resource: Resource,
}

/// How a device is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    Online,
    Away,
}

/// What is said of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub active: Active,
    pub status: Status,
    pub lease: Lease,
}

/// How long the opening of a session waits until it is written down.
const NOTE: Duration = Duration::from_millis(250);

/// How many users are remembered as admitted, and for how long: so long a user who is suspended
/// meanwhile keeps their sessions at most.
const USERS: u64 = 100_000;
const ADMITTED: Duration = Duration::from_mins(1);

/// How long a renewal waits for membership.
const ASK: Duration = Duration::from_millis(300);

/// The devices of all users. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Devices {
    sessions: Arc<dyn Sessions>,
    rosters: Rosters,
    last_seen: LastSeen,
    leases: Leases,
    /// Users who exist in the directory and are not suspended.
    admitted: Cache<User, ()>,
}

/// An id that no session had.
pub fn fresh_id() -> SessionId {
    SessionId::new(format!("{:032x}", rand::random::<u128>()))
}

impl Status {
    pub fn parse(status: String) -> Result<Self, InvalidSession> {
        if status.len() <= MAX_STATUS && !status.chars().any(char::is_control) {
            Ok(Self(status))
        } else {
            let rule = format!("must have at most {MAX_STATUS} bytes and no control characters");
            Err(InvalidSession(rule))
        }
    }

    /// Takes a status from the state, where it was checked before.
    pub fn stored(status: String) -> Self {
        Self(status)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Lease {
    /// Takes what was asked for; nothing asks for the default.
    pub fn parse(lease: Option<Duration>, leases: Leases) -> Result<Self, InvalidSession> {
        let Leases { shortest, default, longest } = leases;
        match lease {
            None => Ok(Self(default)),
            Some(lease) if (shortest..=longest).contains(&lease) => Ok(Self(lease)),
            Some(_) => Err(InvalidSession(format!("must be {shortest:?} to {longest:?}"))),
        }
    }

    /// Takes a lease from the state, where it was checked before.
    pub const fn stored(lease: Duration) -> Self {
        Self(lease)
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Devices {
    pub(crate) fn new(
        sessions: Arc<dyn Sessions>,
        rosters: Rosters,
        last_seen: LastSeen,
        leases: Leases,
    ) -> Self {
        let admitted = Cache::builder().max_capacity(USERS).time_to_live(ADMITTED).build();
        Self { sessions, rosters, last_seen, leases, admitted }
    }

    /// Lets a user come into being; refuses one who is suspended.
    async fn admit(&self, user: &User, deadline: Deadline) -> Result<(), Error> {
        if !self.admitted.contains_key(user) {
            self.rosters.ensure_user(user, deadline).await?;
            self.admitted.insert(user.clone(), ());
        }
        Ok(())
    }

    /// Opens a session, or replaces what is said of it. The user comes into being.
    pub(crate) async fn open(
        &self,
        device: &Device,
        session: &Session,
        deadline: Deadline,
    ) -> Result<SessionId, Error> {
        self.admit(&device.user, deadline).await?;
        match self.sessions.open(device, session, &fresh_id()).await? {
            Opened::Done(id) => {
                // So that who closes it at once was seen; a slow database delays nobody.
                let noted = self.last_seen.note(&device.user);
                if tokio::time::timeout(NOTE, noted).await.is_err() {
                    tracing::debug!("the presence store is slow");
                }
                Ok(id)
            }
            Opened::TooMany => Err(Error::TooManySessions),
        }
    }

    /// Renews the lease of a session, unless its user was suspended. Membership is asked now and
    /// then; while it is away sessions go on.
    pub(crate) async fn renew(&self, device: &Device) -> Result<(SessionId, Session), Error> {
        match self.admit(&device.user, Deadline::within(ASK)).await {
            Ok(()) => {}
            Err(error) if error.reason() == Reason::Suspended => return Err(error),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "a session is renewed without asking membership");
            }
        }
        let renewed = self.sessions.renew(device).await?.ok_or(Error::SessionNotFound)?;
        drop(self.last_seen.note(&device.user));
        Ok(renewed)
    }

    /// Ends a session; one that is not there has ended.
    pub(crate) async fn close(&self, device: &Device) -> Result<(), Error> {
        self.sessions.close(device).await?;
        drop(self.last_seen.note(&device.user));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_session_has_bounds() {
        assert!(Status::parse("é".repeat(32)).is_ok());
        assert!(Status::parse("é".repeat(33)).is_err() && Status::parse("\0".to_owned()).is_err());
        let seconds = |seconds| Lease::parse(Some(Duration::from_secs(seconds)), Leases::default());
        assert!(seconds(9).is_err() && seconds(61).is_err());
        assert!(seconds(10).is_ok() && seconds(60).is_ok());
        let default = Lease::parse(None, Leases::default()).expect("a default");
        assert_eq!(default.get(), Duration::from_secs(30));
    }
}
