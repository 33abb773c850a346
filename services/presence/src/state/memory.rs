//! Sessions in the memory of the one process that there is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Doubt, MAX_SESSIONS, Opened, Seen, Sessions, StateError};
use crate::session::{Device, Resource, Session, User};

/// Sessions in memory. They begin empty: until the longest lease is over, devices
/// of the process before may come back.
#[derive(Debug)]
pub struct MemorySessions {
    doubt: Doubt,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    users: HashMap<User, BTreeMap<Resource, Held>>,
    /// The last sign of life.
    alive: Instant,
    /// Since when every lease could be renewed.
    since: Instant,
    /// Counts the sessions that were opened.
    opened: u64,
}

#[derive(Debug)]
struct Held {
    session: Session,
    ends: Instant,
    /// Which one it was to be opened.
    opened: u64,
}

impl MemorySessions {
    pub fn new(doubt: Doubt) -> Self {
        let now = Instant::now();
        let state = State { users: HashMap::new(), alive: now, since: now, opened: 0 };
        Self { doubt, state: Mutex::new(state) }
    }

    /// Forgets everything, as a restart does.
    #[cfg(feature = "testing")]
    pub fn lose(&self) {
        let (mut state, now) = self.state();
        state.users.clear();
        state.since = now;
    }

    /// The state, after a sign of life.
    fn state(&self) -> (MutexGuard<'_, State>, Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(state.alive) > self.doubt.gap {
            state.since = now;
        }
        state.alive = now;
        (state, now)
    }
}

#[async_trait]
impl Sessions for MemorySessions {
    async fn open(&self, device: &Device, session: &Session) -> Result<Opened, StateError> {
        let (mut state, now) = self.state();
        state.opened += 1;
        let opened = state.opened;
        let sessions = state.users.entry(device.user.clone()).or_default();
        sessions.retain(|_, held| held.ends > now);
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(&device.resource) {
            return Ok(Opened::TooMany);
        }
        let held = Held { session: session.clone(), ends: now + session.lease.get(), opened };
        sessions.insert(device.resource.clone(), held);
        Ok(Opened::Done)
    }

    async fn renew(&self, device: &Device) -> Result<Option<Session>, StateError> {
        let (mut state, now) = self.state();
        let sessions = state.users.get_mut(&device.user);
        let held = sessions.and_then(|sessions| sessions.get_mut(&device.resource));
        Ok(held.filter(|held| held.ends > now).map(|held| {
            held.ends = now + held.session.lease.get();
            held.session.clone()
        }))
    }

    async fn close(&self, device: &Device) -> Result<(), StateError> {
        let (mut state, _) = self.state();
        if let Some(sessions) = state.users.get_mut(&device.user) {
            sessions.remove(&device.resource);
        }
        Ok(())
    }

    async fn of_users(&self, users: &[User]) -> Result<Vec<Option<Seen>>, StateError> {
        let (state, now) = self.state();
        let complete = now.duration_since(state.since) >= self.doubt.lasts;
        let seen = |user: &User| {
            let sessions = state.users.get(user).into_iter().flat_map(BTreeMap::values);
            let mut live: Vec<&Held> = sessions.filter(|held| held.ends > now).collect();
            live.sort_by_key(|held| held.opened);
            let sessions = live.into_iter().map(|held| held.session.clone()).collect();
            Some(Seen { sessions, complete })
        };
        Ok(users.iter().map(seen).collect())
    }

    async fn pulse(&self) -> Result<(), StateError> {
        let (mut state, now) = self.state();
        state.users.retain(|_, sessions| sessions.values().any(|held| held.ends > now));
        Ok(())
    }
}
