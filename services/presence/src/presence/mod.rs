//! How present users are: what their sessions add up to.

mod grpc;
mod watch;

use std::sync::Arc;

use parlance_rpc::{Deadline, Tasks};
use parlance_types::{Micros, RoomId, TenantId, UserId};

pub(crate) use grpc::PresenceGrpc;
use watch::Watches;

use crate::clients::{Members, Rosters};
use crate::session::{Active, LastSeen, Status, User};
use crate::state::{Seen, Sessions};
use crate::{Error, Options};

/// Rooms with more members are not counted.
const MAX_COUNTED: i32 = 1000;

/// How present a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// Cannot be told. Not the same as offline.
    Unknown,
    Offline,
    Online,
    Away,
}

/// How present a user is, with what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub availability: Availability,
    pub status: Status,
    /// Of those who are offline.
    pub last_seen: Option<Micros>,
}

/// How present the users of all tenants are. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Presences {
    sessions: Arc<dyn Sessions>,
    rosters: Rosters,
    last_seen: LastSeen,
    options: Options,
    watches: Arc<Watches>,
    tasks: Tasks,
}

/// The members of a room by their presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnlineCount {
    pub(crate) online: usize,
    pub(crate) away: usize,
    pub(crate) unknown: usize,
    pub(crate) members: usize,
}

impl Presence {
    /// Nothing can be told.
    pub(crate) fn unknown() -> Self {
        Self::of(Availability::Unknown)
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.availability == Availability::Offline
    }

    /// Without a status.
    pub(crate) fn of(availability: Availability) -> Self {
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

impl Presences {
    pub(crate) fn new(
        sessions: Arc<dyn Sessions>,
        rosters: Rosters,
        last_seen: LastSeen,
        options: Options,
        tasks: Tasks,
    ) -> Self {
        Self { sessions, rosters, last_seen, options, watches: Arc::default(), tasks }
    }

    /// The presence of users of a tenant, in their order. Those who cannot be told are
    /// unknown; fails if nobody can.
    pub(crate) async fn get(
        &self,
        tenant_id: &TenantId,
        user_ids: &[UserId],
    ) -> Result<Vec<Presence>, Error> {
        let user = |user_id: &UserId| (tenant_id.clone(), user_id.clone());
        let users: Vec<User> = user_ids.iter().map(user).collect();
        let seen = self.sessions.of_users(&users).await?;
        let mut presences: Vec<Presence> = seen.into_iter().map(Presence::from).collect();
        let offline = users.iter().zip(&presences).filter(|(_, presence)| presence.is_offline());
        let last_seen = self.last_seen.of(offline.map(|(user, _)| user)).await;
        for (user, presence) in users.iter().zip(&mut presences) {
            presence.last_seen = last_seen.get(user).copied().flatten();
        }
        Ok(presences)
    }

    /// Counts the members of a room that the actor may see.
    pub(crate) async fn count(
        &self,
        tenant_id: &TenantId,
        actor: Option<&UserId>,
        room_id: &RoomId,
        deadline: Deadline,
    ) -> Result<OnlineCount, Error> {
        let members =
            self.rosters.members(tenant_id, actor, room_id, MAX_COUNTED, deadline).await?;
        let users = match members {
            Members::TooMany(members) => return Err(Error::RoomTooLarge { members }),
            Members::All(users) => users,
        };
        let users: Vec<User> = users.into_iter().map(|user| (tenant_id.clone(), user)).collect();
        let mut count = OnlineCount { members: users.len(), ..OnlineCount::default() };
        for seen in self.sessions.of_users(&users).await? {
            match Presence::from(seen).availability {
                Availability::Online => count.online += 1,
                Availability::Away => count.away += 1,
                Availability::Unknown => count.unknown += 1,
                Availability::Offline => {}
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::{Lease, Session};

    fn session(active: Active, status: &str) -> Session {
        let lease = Lease::stored(Duration::from_secs(30));
        Session { active, status: Status::stored(status.to_owned()), lease }
    }

    fn sum(sessions: &[(Active, &str)], complete: bool) -> (Availability, String) {
        let sessions = sessions.iter().map(|(active, status)| session(*active, status)).collect();
        let presence = Presence::from(Seen { sessions, complete });
        (presence.availability, presence.status.as_str().to_owned())
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
}
