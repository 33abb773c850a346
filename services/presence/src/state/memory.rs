//! Sessions in the memory of the one process that there is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Doubt, ENDED, MAX_SESSIONS, Named, Opened, Seen, Sessions, StateError};
use crate::session::{Device, Session, User};
use parlance_types::{Resource, SessionId};

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
    /// When sessions end, or are told again to have ended.
    ends: BTreeMap<(Instant, u64), Named>,
    /// Where each session is in that list.
    due: HashMap<SessionId, (Instant, u64)>,
    /// The last sign of life.
    alive: Instant,
    /// Since when every lease could be renewed.
    since: Instant,
    /// Counts what happens to sessions: what comes later has a greater number.
    opened: u64,
}

#[derive(Debug)]
struct Held {
    session: Session,
    id: SessionId,
    ends: Instant,
    /// Which one it was to be opened.
    opened: u64,
}

impl MemorySessions {
    pub fn new(doubt: Doubt) -> Self {
        let now = Instant::now();
        let (users, due) = (HashMap::new(), HashMap::new());
        let ends = BTreeMap::new();
        let state = State { users, ends, due, alive: now, since: now, opened: 0 };
        Self { doubt, state: Mutex::new(state) }
    }

    /// Forgets everything, as a restart does.
    #[cfg(feature = "testing")]
    pub fn lose(&self) {
        let (mut state, now) = self.state();
        state.users.clear();
        state.ends.clear();
        state.due.clear();
        state.since = now;
    }

    /// Whether every session that was there can have been renewed.
    fn complete(&self, state: &State, now: Instant) -> bool {
        now.duration_since(state.since) >= self.doubt.lasts
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

fn named(device: &Device, id: &SessionId) -> Named {
    Named { device: device.clone(), id: id.clone() }
}

impl State {
    /// Lets a session end then, or be told again to have ended.
    fn ends_at(&mut self, ends: Instant, named: Named) {
        self.opened += 1;
        let (due, id) = ((ends, self.opened), named.id.clone());
        self.ends.insert(due, named);
        if let Some(before) = self.due.insert(id, due) {
            self.ends.remove(&before);
        }
    }
}

#[async_trait]
impl Sessions for MemorySessions {
    async fn open(
        &self,
        device: &Device,
        session: &Session,
        fresh: &SessionId,
    ) -> Result<Opened, StateError> {
        let (mut state, now) = self.state();
        state.opened += 1;
        let opened = state.opened;
        let sessions = state.users.entry(device.user.clone()).or_default();
        sessions.retain(|_, held| held.ends > now);
        let before = sessions.get(&device.resource).map(|held| held.id.clone());
        if sessions.len() >= MAX_SESSIONS && before.is_none() {
            return Ok(Opened::TooMany);
        }
        let (id, ends) = (before.unwrap_or_else(|| fresh.clone()), now + session.lease.get());
        let held = Held { session: session.clone(), id: id.clone(), ends, opened };
        sessions.insert(device.resource.clone(), held);
        state.ends_at(ends, named(device, &id));
        Ok(Opened::Done(id))
    }

    async fn renew(&self, device: &Device) -> Result<Option<(SessionId, Session)>, StateError> {
        let (mut state, now) = self.state();
        let sessions = state.users.get_mut(&device.user);
        let held = sessions.and_then(|sessions| sessions.get_mut(&device.resource));
        let Some(held) = held.filter(|held| held.ends > now) else { return Ok(None) };
        held.ends = now + held.session.lease.get();
        let (id, session, ends) = (held.id.clone(), held.session.clone(), held.ends);
        state.ends_at(ends, named(device, &id));
        Ok(Some((id, session)))
    }

    async fn close(&self, device: &Device) -> Result<(), StateError> {
        let (mut state, now) = self.state();
        let sessions = state.users.get_mut(&device.user);
        let held = sessions.and_then(|sessions| sessions.remove(&device.resource));
        if let Some(Held { id, .. }) = held.filter(|held| held.ends > now) {
            state.ends_at(now, named(device, &id));
        }
        Ok(())
    }

    async fn of_users(&self, users: &[User]) -> Result<Vec<Option<Seen>>, StateError> {
        let (state, now) = self.state();
        let complete = self.complete(&state, now);
        let seen = |user: &User| {
            let sessions = state.users.get(user).into_iter().flat_map(BTreeMap::values);
            let mut live: Vec<&Held> = sessions.filter(|held| held.ends > now).collect();
            live.sort_by_key(|held| held.opened);
            let sessions = live.into_iter().map(|held| held.session.clone()).collect();
            Some(Seen { sessions, complete })
        };
        Ok(users.iter().map(seen).collect())
    }

    async fn ended(&self, hold: Duration) -> Result<Vec<Named>, StateError> {
        let (mut state, now) = self.state();
        if !self.complete(&state, now) {
            return Ok(Vec::new());
        }
        let due = state.ends.iter().take_while(|((ends, _), _)| *ends <= now).take(ENDED);
        let ended: Vec<_> = due.map(|(_, ended)| ended.clone()).collect();
        for ended in &ended {
            state.ends_at(now + hold, ended.clone());
        }
        Ok(ended)
    }

    async fn forget(&self, ended: &[Named]) -> Result<(), StateError> {
        let (mut state, _) = self.state();
        for Named { id, .. } in ended {
            if let Some(due) = state.due.remove(id) {
                state.ends.remove(&due);
            }
        }
        Ok(())
    }

    async fn gone(&self, mut sessions: Vec<Named>) -> Result<Vec<Named>, StateError> {
        let (state, now) = self.state();
        let complete = self.complete(&state, now);
        sessions.retain(|Named { device, id }| {
            let held = state.users.get(&device.user);
            let held = held.and_then(|sessions| sessions.get(&device.resource));
            complete && held.is_none_or(|held| held.id != *id || held.ends <= now)
        });
        Ok(sessions)
    }

    async fn count(&self) -> Result<u64, StateError> {
        let (state, now) = self.state();
        let held = state.users.values().flat_map(BTreeMap::values);
        Ok(held.filter(|held| held.ends > now).map(|_| 1).sum())
    }

    async fn pulse(&self) -> Result<(), StateError> {
        let (mut state, now) = self.state();
        state.users.retain(|_, sessions| sessions.values().any(|held| held.ends > now));
        Ok(())
    }
}
