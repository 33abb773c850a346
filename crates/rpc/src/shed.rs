//! How much the process takes on at once, and how much of it for one caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;

use crate::auth::is_health;
use crate::rate::Key;
use crate::step::{Next, Step};
use crate::{Caller, Principal, Reason, Refusal};

/// When to come back after a refusal.
const RETRY: Duration = Duration::from_millis(250);

/// The step that bounds how many calls are handled at once. Refuses the others at
/// once, so that what is admitted keeps its latency. An open stream counts until
/// its first byte only; probes of health are always answered.
#[derive(Clone, Debug)]
pub struct Shed {
    permits: Arc<Semaphore>,
    share: Share,
}

/// The step that bounds how many calls of one caller are handled at once: a quarter
/// of all, so that one whose requests never end leaves room for the others. Services
/// of the suite are exempt.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    calls: Arc<Mutex<HashMap<Key, usize>>>,
    most: usize,
}

/// A call of a caller, counted until it is dropped.
struct Counted {
    calls: Arc<Mutex<HashMap<Key, usize>>>,
    key: Key,
}

impl Shed {
    /// Handles at most `calls` at once, and a quarter of them for one caller.
    pub fn new(calls: usize) -> Self {
        let calls = calls.min(Semaphore::MAX_PERMITS);
        let share = Share { calls: Arc::default(), most: calls.div_ceil(4) };
        Self { permits: Arc::new(Semaphore::new(calls)), share }
    }

    /// The part of it that needs to know who calls.
    pub(crate) fn share(&self) -> Share {
        self.share.clone()
    }
}

impl Share {
    fn enter(&self, caller: &Caller) -> Option<Counted> {
        let key = (caller.tenant_id.clone(), caller.principal.clone());
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.entry(key.clone()).or_default();
        (*count < self.most).then(|| {
            *count += 1;
            Counted { calls: Arc::clone(&self.calls), key }
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = calls.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.key);
            }
        }
    }
}

fn overloaded(message: &str) -> Response<Body> {
    Status::from(Refusal::new(Reason::Overloaded, message).retry_after(RETRY)).into_http()
}

impl Step for Shed {
    async fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        if is_health(request.uri().path()) {
            return next.call(request).await;
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            return Ok(overloaded("too many calls are being handled"));
        };
        next.call(request).await
    }
}

impl Step for Share {
    async fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        let caller = request.extensions().get::<Caller>();
        let caller = caller.filter(|it| !matches!(it.principal, Principal::Internal(_)));
        let Some(caller) = caller else { return next.call(request).await };
        let Some(_counted) = self.enter(caller) else {
            return Ok(overloaded("too many calls of this caller are being handled"));
        };
        next.call(request).await
    }
}

#[cfg(test)]
mod tests {
    use parlance_types::{TenantId, UserId};

    use super::*;

    #[test]
    fn one_caller_takes_at_most_a_quarter_and_gives_it_back() {
        let share = Shed::new(8).share();
        let of = |tenant: &str| Caller {
            tenant_id: TenantId::new(tenant),
            subject: "ann".to_owned(),
            principal: Principal::User(UserId::new("ann")),
            expires: 0,
        };
        let held: Vec<_> = (0..2).map(|_| share.enter(&of("acme")).expect("a place")).collect();
        assert!(share.enter(&of("acme")).is_none());
        assert!(share.enter(&of("other")).is_some(), "tenants are counted apart");
        drop(held);
        assert!(share.enter(&of("acme")).is_some());
        assert!(share.calls.lock().expect("the counts").is_empty(), "nobody is remembered");
    }
}
