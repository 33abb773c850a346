//! Users who are watched. The node looks at all of them at a fixed pace, however
//! many watch them, so that it notices the end of a lease whoever held it, and a
//! watcher hears of a user at most once per look.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlance_types::{Micros, TenantId, UserId};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Availability, Presence, Presences, User};
use crate::Error;

/// How many users one question to the state is about.
const LOOK: usize = 500;

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
}

/// One who watches users, until it is dropped.
#[derive(Debug)]
pub struct Watcher {
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

    /// The users, with what was found of them.
    fn all(&self) -> Vec<(User, Option<Presence>)> {
        let found = |watched: &Watched| watched.found.as_ref().map(|(_, found)| found.clone());
        self.users().iter().map(|(user, watched)| (user.clone(), found(watched))).collect()
    }
}

impl Presences {
    /// Watches users. What they are now is told first: see [`Watcher::now`].
    pub async fn watch(&self, tenant_id: TenantId, user_ids: &[UserId]) -> Result<Watcher, Error> {
        let looked = self.watches.looked.subscribe();
        {
            let mut users = self.watches.users();
            for user_id in user_ids {
                let fresh = || Watched { watchers: 0, found: None, good: Instant::now() };
                let user = (tenant_id.clone(), user_id.clone());
                users.entry(user).or_insert_with(fresh).watchers += 1;
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
        fresh.from = Instant::now();
        Ok(fresh)
    }

    /// Looks at those who are watched, and shows the state that leases are renewed
    /// here, until `shutdown`.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let mut pace = interval(self.options.watch);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(pace.tick()).await.is_some() {
            if let Err(error) = self.sessions.pulse().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not reach the state of presence");
            }
            self.look().await;
        }
        self.notes.close();
        self.notes.wait().await;
    }

    async fn look(&self) {
        let users = self.watches.all();
        for chunk in users.chunks(LOOK) {
            let began = Instant::now();
            let found = self.look_at(chunk).await;
            if let Err(error) = &found {
                let error = error as &dyn std::error::Error;
                tracing::warn!(error, "could not look at those who are watched");
            }
            let mut found = found.ok().map(Vec::into_iter);
            let mut watched_users = self.watches.users();
            for (user, _) in chunk {
                let presence = found.as_mut().and_then(Iterator::next);
                let Some(watched) = watched_users.get_mut(user) else { continue };
                if let Some(presence) = presence {
                    watched.good = began;
                    watched.found = Some((began, presence));
                } else if began.duration_since(watched.good) > self.options.stale {
                    watched.found = Some((began, Presence::unknown()));
                }
            }
        }
        self.watches.looked.send_replace(());
    }

    /// What users are now. When they were last seen is read for those only of whom
    /// it may be news.
    async fn look_at(&self, users: &[(User, Option<Presence>)]) -> Result<Vec<Presence>, Error> {
        let names: Vec<User> = users.iter().map(|(user, _)| user.clone()).collect();
        let seen = self.sessions.of_users(&names).await?;
        let mut presences: Vec<Presence> = seen.into_iter().map(Presence::from).collect();
        let mut news: BTreeMap<&TenantId, Vec<UserId>> = BTreeMap::new();
        for ((user, before), presence) in users.iter().zip(&mut presences) {
            if presence.availability != Availability::Offline {
                continue;
            }
            match before {
                Some(before) if before.availability == Availability::Offline => {
                    presence.last_seen = before.last_seen;
                }
                _ => news.entry(&user.0).or_default().push(user.1.clone()),
            }
        }
        let mut last_seen: BTreeMap<User, Micros> = BTreeMap::new();
        for (tenant_id, user_ids) in news {
            let times = self.store.last_seen(tenant_id, &user_ids).await?;
            last_seen.extend(times.into_iter().map(|(id, time)| ((tenant_id.clone(), id), time)));
        }
        for ((user, _), presence) in users.iter().zip(&mut presences) {
            if let Some(time) = last_seen.get(user) {
                presence.last_seen = Some(*time);
            }
        }
        Ok(presences)
    }
}

impl Watcher {
    /// What all users are, as last told, in the order asked for.
    pub fn now(&self) -> Vec<(UserId, Presence)> {
        self.told.clone()
    }

    /// Waits for changes: each user at most once, with the latest value. Nothing is
    /// lost when the wait is given up.
    pub async fn changes(&mut self) -> Vec<(UserId, Presence)> {
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
            {
                told.clone_from(found);
                changes.push((user_id.clone(), found.clone()));
            }
        }
        changes
    }
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
