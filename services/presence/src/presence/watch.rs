//! Users who are watched. The node looks at all of them at a fixed pace, however
//! many watch them, so that it notices the end of a lease whoever held it, and a
//! watcher hears of a user at most once per look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use parlance_types::{Micros, TenantId, UserId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Presence, Presences};
use crate::Error;
use crate::session::{SEEN_EVERY, User};

/// How many users one question to the state is about, and how many questions are
/// asked at once: a look reaches 32,000 users even while a part of the state is silent,
/// so that every question takes its full second.
const USERS: usize = 1000;
const AT_ONCE: usize = 32;

/// How long a look may take. Who was not reached by then was not seen. With the pace
/// of the looks and what counts as stale this is the 6 s of the contract.
const WITHIN: Duration = Duration::from_secs(2);

/// Who is watched on this node.
#[derive(Debug)]
pub(crate) struct Watches {
    users: Mutex<HashMap<User, Watched>>,
    /// Sent after every look.
    looked: watch::Sender<()>,
}

#[derive(Debug)]
struct Watched {
    watchers: usize,
    /// What the last look found, and when the look began.
    found: Option<(Instant, Presence)>,
    /// When the last look began that was good.
    good: Instant,
    /// When an offline user was last seen: the latest time that was ever read.
    last_seen: Option<Micros>,
    /// When that was read, since the user is offline.
    read: Option<Instant>,
}

impl Watched {
    fn new() -> Self {
        Self { watchers: 0, found: None, good: Instant::now(), last_seen: None, read: None }
    }

    /// Whether it may be news when an offline user was last seen. Once in a while it is
    /// without a change: the user came and went between two looks.
    fn must_be_read(&self, now: Instant) -> bool {
        self.read.is_none_or(|read| now.duration_since(read) >= SEEN_EVERY)
    }

    /// Takes in what a look found, and when an offline user was last seen, if ever, if that
    /// was read.
    fn learn(&mut self, began: Instant, mut found: Presence, read: Option<&Option<Micros>>) {
        if !found.is_offline() {
            self.read = None;
        } else if let Some(time) = read {
            self.last_seen = self.last_seen.max(*time);
            self.read = Some(began);
        }
        if self.read.is_some() {
            found.last_seen = self.last_seen;
        }
        self.good = began;
        self.found = Some((began, found));
    }
}

/// One who watches users, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    watches: Arc<Watches>,
    tenant_id: TenantId,
    /// In the order asked for, with what the watcher was told.
    told: Vec<(UserId, Presence)>,
    /// Looks that began before are not news.
    from: Instant,
    looked: watch::Receiver<()>,
}

impl Default for Watches {
    fn default() -> Self {
        Self { users: Mutex::default(), looked: watch::Sender::new(()) }
    }
}

impl Watches {
    fn users(&self) -> MutexGuard<'_, HashMap<User, Watched>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<User> {
        self.users().keys().cloned().collect()
    }

    /// Those of whom it must be read when they were last seen.
    fn to_read<'a>(&self, found: &[(&'a User, Presence)]) -> Vec<&'a User> {
        let (users, now) = (self.users(), Instant::now());
        let must = |user| users.get(user).is_some_and(|watched| watched.must_be_read(now));
        let offline = found.iter().filter(|(_, presence)| presence.is_offline());
        offline.map(|(user, _)| *user).filter(|user| must(user)).collect()
    }

    /// Takes in when users were last seen, as one who watches them found it.
    fn heed(&self, watcher: &Watcher) {
        let mut users = self.users();
        for (user_id, told) in &watcher.told {
            if let Some(watched) = users.get_mut(&(watcher.tenant_id.clone(), user_id.clone())) {
                watched.last_seen = watched.last_seen.max(told.last_seen);
            }
        }
    }

    /// Makes unknown who was not seen for too long, by the look that began then neither.
    fn age(&self, began: Instant, stale: Duration) {
        for watched in self.users().values_mut() {
            if watched.good < began && watched.good.elapsed() > stale {
                watched.read = None;
                watched.found = Some((began, Presence::unknown()));
            }
        }
    }
}

impl Presences {
    /// Watches users. What they are now is told first: see [`Watcher::now`].
    pub(crate) async fn watch(
        &self,
        tenant_id: TenantId,
        user_ids: &[UserId],
    ) -> Result<Watcher, Error> {
        let looked = self.watches.looked.subscribe();
        {
            let mut users = self.watches.users();
            for user_id in user_ids {
                let user = (tenant_id.clone(), user_id.clone());
                users.entry(user).or_insert_with(Watched::new).watchers += 1;
            }
        }
        let unknown = |user_id: &UserId| (user_id.clone(), Presence::unknown());
        let told = user_ids.iter().map(unknown).collect();
        let watches = Arc::clone(&self.watches);
        // Made before the wait, so that it is unmade if the wait is given up.
        let mut fresh = Watcher { watches, tenant_id, told, from: Instant::now(), looked };
        let presences = self.get(&fresh.tenant_id, user_ids).await?;
        for ((_, told), presence) in fresh.told.iter_mut().zip(presences) {
            *told = presence;
        }
        fresh.watches.heed(&fresh);
        fresh.from = Instant::now();
        Ok(fresh)
    }

    /// Looks from now on at those who are watched, and shows the state that leases are
    /// renewed here.
    pub(crate) fn run(&self) {
        let presences = self.clone();
        self.tasks.every("presence look", self.options.watch, Arc::default(), move || {
            let presences = presences.clone();
            async move { tokio::join!(presences.sessions.pulse(), presences.look()).0 }
        });
    }

    async fn look(&self) {
        let (began, users) = (Instant::now(), self.watches.all());
        let looks = stream::iter(users.chunks(USERS))
            .for_each_concurrent(AT_ONCE, |users| self.look_at(users));
        if timeout(WITHIN, looks).await.is_err() {
            tracing::warn!("could not look in time at all of those who are watched");
        }
        self.watches.age(began, self.options.stale);
        self.watches.looked.send_replace(());
    }

    /// Looks at what users are now. When they were last seen is read for those only of
    /// whom it may be news.
    async fn look_at(&self, users: &[User]) {
        let began = Instant::now();
        let seen = match self.sessions.of_users(users).await {
            Ok(seen) => seen,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not look at those who are watched");
                return;
            }
        };
        let seen = users.iter().zip(seen);
        let found: Vec<_> =
            seen.filter_map(|(user, seen)| Some((user, Presence::from(seen?)))).collect();
        let to_read = self.watches.to_read(&found);
        let read = self.last_seen.of(to_read.into_iter()).await;
        let mut users = self.watches.users();
        for (user, presence) in found {
            if let Some(watched) = users.get_mut(user) {
                watched.learn(began, presence, read.get(user));
            }
        }
    }
}

impl Watcher {
    /// What all users are, as last told, in the order asked for.
    pub(crate) fn now(&self) -> Vec<(UserId, Presence)> {
        self.told.clone()
    }

    /// Waits for changes: each user at most once, with the latest value. Nothing is
    /// lost when the wait is given up.
    pub(crate) async fn changes(&mut self) -> Vec<(UserId, Presence)> {
        loop {
            if self.looked.changed().await.is_err() {
                // The node looks no more; whoever waits is ended by its drain.
                std::future::pending::<()>().await;
            }
            let changes = self.news();
            if !changes.is_empty() {
                return changes;
            }
        }
    }

    fn news(&mut self) -> Vec<(UserId, Presence)> {
        let users = self.watches.users();
        let mut changes = Vec::new();
        for (user_id, told) in &mut self.told {
            let watched = users.get(&(self.tenant_id.clone(), user_id.clone()));
            if let Some((began, found)) = watched.and_then(|watched| watched.found.as_ref())
                && *began >= self.from
                && found != told
                && !goes_back(told, found)
            {
                told.clone_from(found);
                changes.push((user_id.clone(), found.clone()));
            }
        }
        changes
    }
}

/// Whether all that is new of an offline user is an older time: the user was told from
/// a later reading than that of the looks.
fn goes_back(told: &Presence, found: &Presence) -> bool {
    told.is_offline() && found.is_offline() && found.last_seen < told.last_seen
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut users = self.watches.users();
        for (user_id, _) in &self.told {
            let user = (self.tenant_id.clone(), user_id.clone());
            if let Some(watched) = users.get_mut(&user) {
                watched.watchers -= 1;
                if watched.watchers == 0 {
                    users.remove(&user);
                }
            }
        }
    }
}
