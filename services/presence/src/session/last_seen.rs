//! When users were last seen. Presence works without it as long as it can.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use moka::sync::Cache;
use parlance_rpc::{Env, Tasks, carry};
use parlance_types::{Clock, Micros, TenantId, UserId};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::User;
use super::store::{SEEN_EVERY, Store};

/// How long an answer waits for when users were last seen.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many users are remembered as seen this minute.
const USERS: u64 = 100_000;

/// When the users of all tenants were last seen. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LastSeen {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Users for whom it was written down lately.
    noted: Cache<User, ()>,
    tasks: Tasks,
}

impl LastSeen {
    pub(crate) fn new(env: &Env, store: Store) -> Self {
        let noted = Cache::builder().max_capacity(USERS).time_to_live(SEEN_EVERY).build();
        Self { store, clock: Arc::clone(&env.clock), noted, tasks: env.tasks.clone() }
    }

    /// Writes down that a user was seen, unless it was done within the minute. Need not be
    /// awaited.
    pub(crate) fn note(&self, user: &User) -> OptionFuture<JoinHandle<()>> {
        if self.noted.contains_key(user) {
            return None.into();
        }
        self.noted.insert(user.clone(), ());
        let (user, this) = (user.clone(), self.clone());
        let note = async move {
            if let Err(error) = this.store.seen(&user, this.clock.now()).await {
                this.noted.invalidate(&user);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not write down when a user was seen");
            }
        };
        Some(tokio::spawn(self.tasks.track(carry(note)))).into()
    }

    /// When users were last seen, if ever: of those of whom it can be read in time. How
    /// present users are is told without it. A time to come is none: the clock that wrote it
    /// was ahead.
    pub(crate) async fn of<'a>(
        &self,
        users: impl Iterator<Item = &'a User>,
    ) -> HashMap<User, Option<Micros>> {
        let mut by_tenant: BTreeMap<&TenantId, Vec<UserId>> = BTreeMap::new();
        for (tenant_id, user_id) in users {
            by_tenant.entry(tenant_id).or_default().push(user_id.clone());
        }
        let due = Instant::now() + PATIENCE;
        let slack = Micros::try_from(SEEN_EVERY.as_micros()).unwrap_or(Micros::MAX);
        let latest = self.clock.now().saturating_add(slack);
        let mut read = HashMap::new();
        for (tenant_id, user_ids) in by_tenant {
            let times = timeout_at(due, self.store.last_seen(tenant_id, &user_ids)).await;
            let Ok(times) = times else {
                tracing::warn!("could not read in time when users were last seen");
                break;
            };
            match times {
                Ok(times) => read.extend(user_ids.into_iter().map(|user_id| {
                    let time = times.get(&user_id).copied().filter(|time| *time <= latest);
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
}
