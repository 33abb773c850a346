//! What requests mean.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use moka::sync::Cache;
use parlance_types::{Micros, RoomId, TenantId, UserId};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::watch::Watches;
use super::{Availability, Device, Options, Presence, Session, User};
use crate::Error;
use crate::clients::{Members, Notices, Roster};
use crate::state::{Opened, Sessions};
use crate::store::{SEEN_EVERY, Store};

/// Rooms with more members are not counted.
const MAX_COUNTED: i32 = 1000;

/// How long the opening of a session waits until it is written down.
const NOTE: Duration = Duration::from_millis(250);

/// How long an answer waits for when users were last seen.
const LAST_SEEN: Duration = Duration::from_millis(500);

/// How many users are remembered as existing, or as seen this minute.
const USERS: u64 = 100_000;

/// How present the users of all tenants are. Clones share it.
#[derive(Clone, Debug)]
pub struct Presences {
    pub(super) sessions: Arc<dyn Sessions>,
    pub(super) store: Store,
    roster: Roster,
    notices: Notices,
    pub(super) options: Options,
    pub(super) watches: Arc<Watches>,
    /// Users who exist in the directory.
    existing: Cache<User, ()>,
    /// Users whose last seen was written down lately.
    noted: Cache<User, ()>,
    /// Writes that no request waits for.
    pub(super) notes: TaskTracker,
}

/// The members of a room by their presence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnlineCount {
    pub online: usize,
    pub away: usize,
    pub unknown: usize,
    pub members: usize,
}

impl Presences {
    pub(crate) fn new(
        sessions: Arc<dyn Sessions>,
        store: Store,
        roster: Roster,
        notices: Notices,
        options: Options,
    ) -> Self {
        Self {
            sessions,
            store,
            roster,
            notices,
            options,
            watches: Arc::default(),
            existing: Cache::new(USERS),
            noted: Cache::builder().max_capacity(USERS).time_to_live(SEEN_EVERY).build(),
            notes: TaskTracker::new(),
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Opens a session, or replaces what is said of it. The user comes into being.
    pub async fn open(
        &self,
        device: &Device,
        session: &Session,
        left: Duration,
    ) -> Result<(), Error> {
        if !self.existing.contains_key(&device.user) {
            self.roster.ensure(&device.user, left).await?;
            self.existing.insert(device.user.clone(), ());
        }
        match self.sessions.open(device, session).await? {
            Opened::Done => {
                // So that who closes it at once was seen; a slow database delays nobody.
                let noted = self.note(&device.user);
                if tokio::time::timeout(NOTE, noted).await.is_err() {
                    tracing::debug!("the presence store is slow");
                }
                Ok(())
            }
            Opened::TooMany => Err(Error::TooManySessions),
        }
    }

    /// Renews the lease of a session.
    pub async fn renew(&self, device: &Device) -> Result<Session, Error> {
        let session = self.sessions.renew(device).await?.ok_or(Error::SessionNotFound)?;
        drop(self.note(&device.user));
        Ok(session)
    }

    /// Ends a session; one that is not there has ended.
    pub async fn close(&self, device: &Device) -> Result<(), Error> {
        self.sessions.close(device).await?;
        drop(self.note(&device.user));
        Ok(())
    }

    /// The presence of users of a tenant, in their order. Those who cannot be told are
    /// unknown; fails if nobody can.
    pub async fn get(
        &self,
        tenant_id: &TenantId,
        user_ids: &[UserId],
    ) -> Result<Vec<Presence>, Error> {
        let user = |user_id: &UserId| (tenant_id.clone(), user_id.clone());
        let users: Vec<User> = user_ids.iter().map(user).collect();
        let seen = self.sessions.of_users(&users).await?;
        let mut presences: Vec<Presence> = seen.into_iter().map(Presence::from).collect();
        let offline = users.iter().zip(&presences).filter(|(_, presence)| presence.is_offline());
        let last_seen = self.last_seen(offline.map(|(user, _)| user)).await;
        for (user, presence) in users.iter().zip(&mut presences) {
            presence.last_seen = last_seen.get(user).copied().flatten();
        }
        Ok(presences)
    }

    /// When users were last seen, if ever: of those of whom it can be read in time. How
    /// present users are is told without it.
    pub(super) async fn last_seen<'a>(
        &self,
        users: impl Iterator<Item = &'a User>,
    ) -> HashMap<User, Option<Micros>> {
        let mut by_tenant: BTreeMap<&TenantId, Vec<UserId>> = BTreeMap::new();
        for (tenant_id, user_id) in users {
            by_tenant.entry(tenant_id).or_default().push(user_id.clone());
        }
        let (due, mut read) = (Instant::now() + LAST_SEEN, HashMap::new());
        for (tenant_id, user_ids) in by_tenant {
            let times = timeout_at(due, self.store.last_seen(tenant_id, &user_ids)).await;
            let Ok(times) = times else {
                tracing::warn!("could not read in time when users were last seen");
                break;
            };
            match times {
                Ok(times) => read.extend(user_ids.into_iter().map(|user_id| {
                    let time = times.get(&user_id).copied();
                    ((tenant_id.clone(), user_id), time)
                })),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "could not read when users were last seen");
                }
            }
        }
        read
    }

    /// Counts the members of a room that the actor may see.
    pub async fn count(
        &self,
        tenant_id: &TenantId,
        actor: Option<&UserId>,
        room_id: &RoomId,
        left: Duration,
    ) -> Result<OnlineCount, Error> {
        let members = self.roster.members(tenant_id, actor, room_id, MAX_COUNTED, left).await?;
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

    /// Tells the other members of a room that the user is typing, or stopped.
    pub async fn set_typing(
        &self,
        user: &User,
        room_id: &RoomId,
        typing: bool,
        left: Duration,
    ) -> Result<(), Error> {
        let lasts = if typing { self.options.typing } else { Duration::ZERO };
        self.notices.typing(user, room_id, lasts, left).await
    }

    /// Writes down that a user was seen, unless it was done within the minute. Need
    /// not be awaited: presence works without its database as long as it can.
    fn note(&self, user: &User) -> OptionFuture<JoinHandle<()>> {
        if self.noted.contains_key(user) {
            return None.into();
        }
        self.noted.insert(user.clone(), ());
        let (user, this) = (user.clone(), self.clone());
        let note = async move {
            if let Err(error) = this.store.seen(&user).await {
                this.noted.invalidate(&user);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not write down when a user was seen");
            }
        };
        Some(self.notes.spawn(note.in_current_span())).into()
    }
}
