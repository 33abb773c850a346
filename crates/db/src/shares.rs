//! Turns at the connections of a pool.
//!
//! Each tenant, and each caller within it, may have as many connections as there are, lent or
//! waited for; what it wants beyond waits in a line of its own. So whoever comes to the pool finds
//! no more than that of each other tenant before them, however much those want, and one who is
//! alone has all connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use parlance_types::Whose;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who has what of one pool. What belongs to nobody, such as what is done beside requests and for
/// many streams at once, is not counted.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    most: usize,
    /// Of those that have or want something. A tenant's own line has no caller.
    lines: Arc<Mutex<HashMap<Place, Arc<Semaphore>>>>,
    /// How many stand in them.
    waiting: Arc<AtomicUsize>,
}

type Place = (Arc<str>, Option<Arc<str>>);

/// Somebody who stands in a line, until they have what is due to them or leave.
struct Waits<'a>(&'a AtomicUsize);

/// One of the connections that a caller has at once. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share(#[expect(dead_code, reason = "held")] Box<[Held; 2]>);

#[derive(Debug)]
struct Held {
    shares: Shares,
    place: Place,
    permit: Option<OwnedSemaphorePermit>,
}

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shares {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, lines: Arc::default(), waiting: Arc::default() }
    }

    /// Waits until one more connection is due to whoever the present task works for.
    pub(crate) async fn take(&self) -> Option<Share> {
        let Whose { tenant, caller } = Whose::of_task()?;
        let _until_it_is_due = Waits::begin(&self.waiting);
        // First within the tenant, so that its line holds as many of each of its callers.
        let own = self.line((Arc::clone(&tenant), Some(caller))).await;
        let shared = self.line((tenant, None)).await;
        Some(Share(Box::new([own, shared])))
    }

    /// How many wait until a connection is due to them.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn line(&self, place: Place) -> Held {
        let line = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let line = lines.entry(place.clone());
            Arc::clone(line.or_insert_with(|| Arc::new(Semaphore::new(self.most))))
        };
        // Whoever leaves the line leaves it clean, too.
        let mut held = Held { shares: self.clone(), place, permit: None };
        held.permit = line.acquire_owned().await.ok();
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.permit = None;
        let mut lines = self.shares.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has or wants one holds its line.
        if lines.get(&self.place).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn whose(tenant: &str, caller: &str) -> Whose {
        Whose { tenant: tenant.into(), caller: caller.into() }
    }

    #[tokio::test]
    async fn a_caller_has_as_many_as_there_are_and_waits_behind_its_own() {
        let shares = Shares::new(2);
        let take = |tenant, caller| whose(tenant, caller).does(shares.take()).now_or_never();
        let mut ann: Vec<_> = (0..2).map(|_| take("acme", "ann").expect("one of two")).collect();
        assert!(take("acme", "ann").is_none(), "a third");
        assert!(take("acme", "bob").is_none(), "the tenant has all it may");
        let other = take("zeta", "ann").expect("another tenant");
        assert!(shares.take().now_or_never().expect("nobody's").is_none());

        let bob = whose("acme", "bob").does(shares.take());
        let third = whose("acme", "ann").does(shares.take());
        let (mut bob, mut third) = (Box::pin(bob), Box::pin(third));
        assert!((&mut third).now_or_never().is_none() && (&mut bob).now_or_never().is_none());
        assert_eq!(shares.waiting(), 2);
        // Ann's third waits in her own line, and comes to the tenant's when her first is back.
        ann.pop();
        assert!((&mut third).now_or_never().is_none(), "it is bob's turn");
        let bob = (&mut bob).now_or_never().expect("bob's turn");

        drop((ann, third, bob, other));
        assert_eq!(shares.waiting(), 0);
        assert!(shares.lines.lock().expect("not poisoned").is_empty());
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_leaves_nothing() {
        let shares = Shares::new(1);
        let held = whose("acme", "ann").does(shares.take()).await;
        assert!(whose("acme", "ann").does(shares.take()).now_or_never().is_none());
        assert!(whose("acme", "bob").does(shares.take()).now_or_never().is_none());
        assert_eq!(shares.waiting(), 0);
        drop(held);
        assert!(shares.lines.lock().expect("not poisoned").is_empty());
    }
}
