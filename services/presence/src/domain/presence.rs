//! Sessions, and the presence that they add up to.

use std::time::Duration;

use parlance_types::{Micros, TenantId, UserId};

use super::Leases;
use crate::state::Seen;

/// The longest name of a device, and the longest status, in bytes.
const MAX_RESOURCE: usize = 128;
const MAX_STATUS: usize = 64;

/// A user of a tenant.
pub type User = (TenantId, UserId);

/// Names a device among those of its user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(String);

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

/// How present a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Cannot be told. Not the same as offline.
    Unknown,
    Offline,
    Online,
    Away,
}

/// How present a user is, with what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    pub availability: Availability,
    pub status: Status,
    /// Of those who are offline.
    pub last_seen: Option<Micros>,
}

impl Resource {
    pub fn parse(resource: String) -> Result<Self, InvalidSession> {
        let fits = (1..=MAX_RESOURCE).contains(&resource.len());
        if fits && !resource.chars().any(char::is_control) {
            Ok(Self(resource))
        } else {
            let rule = format!("must have 1 to {MAX_RESOURCE} bytes and no control characters");
            Err(InvalidSession(rule))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
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

impl Presence {
    /// Nothing can be told.
    pub fn unknown() -> Self {
        Self::of(Availability::Unknown)
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.availability == Availability::Offline
    }

    /// Without a status.
    pub fn of(availability: Availability) -> Self {
        Self { availability, status: Status::default(), last_seen: None }
    }
}

impl From<Option<Seen>> for Presence {
    /// Who cannot be told is unknown.
    fn from(seen: Option<Seen>) -> Self {
        seen.map_or_else(Self::unknown, Self::from)
    }
}

impl From<Seen> for Presence {
    /// Online if one session is, else away if one is. Without a session a user is
    /// offline only if no session can have been lost.
    fn from(seen: Seen) -> Self {
        let is = |active| seen.sessions.iter().any(|session| session.active == active);
        let availability = if is(Active::Online) {
            Availability::Online
        } else if is(Active::Away) {
            Availability::Away
        } else if seen.complete {
            Availability::Offline
        } else {
            Availability::Unknown
        };
        // They come in the order in which they were set.
        let said = seen.sessions.into_iter().rev().map(|session| session.status);
        let status = said.into_iter().find(|status| !status.as_str().is_empty());
        Self { availability, status: status.unwrap_or_default(), last_seen: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(active: Active, status: &str) -> Session {
        let lease = Lease(Duration::from_secs(30));
        Session { active, status: Status(status.to_owned()), lease }
    }

    fn sum(sessions: &[(Active, &str)], complete: bool) -> (Availability, String) {
        let sessions = sessions.iter().map(|(active, status)| session(*active, status)).collect();
        let presence = Presence::from(Seen { sessions, complete });
        (presence.availability, presence.status.0)
    }

    #[test]
    fn sessions_add_up_and_the_last_status_counts() {
        use Active::{Away, Online};
        assert_eq!(sum(&[(Away, ""), (Online, "")], true), (Availability::Online, String::new()));
        assert_eq!(sum(&[(Away, "a"), (Away, "")], true), (Availability::Away, "a".to_owned()));
        let last = sum(&[(Online, "a"), (Away, "b")], false);
        assert_eq!(last, (Availability::Online, "b".to_owned()));
    }

    #[test]
    fn nobody_is_offline_while_sessions_may_have_been_lost() {
        assert_eq!(sum(&[], true).0, Availability::Offline);
        assert_eq!(sum(&[], false).0, Availability::Unknown);
    }

    #[test]
    fn what_is_said_of_a_session_has_bounds() {
        assert!(Resource::parse("x".repeat(128)).is_ok());
        for bad in [String::new(), "x".repeat(129), "a\0b".to_owned()] {
            assert!(Resource::parse(bad).is_err());
        }
        assert!(Status::parse("é".repeat(32)).is_ok());
        assert!(Status::parse("é".repeat(33)).is_err() && Status::parse("\0".to_owned()).is_err());
        let seconds = |seconds| Lease::parse(Some(Duration::from_secs(seconds)), Leases::default());
        assert!(seconds(9).is_err() && seconds(61).is_err());
        assert!(seconds(10).is_ok() && seconds(60).is_ok());
        let default = Lease::parse(None, Leases::default()).expect("a default");
        assert_eq!(default.get(), Duration::from_secs(30));
    }
}
