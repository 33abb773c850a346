//! What is known of one connection, shared by its task and by its calls.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// So many calls in a row without a good token end a connection that never had one.
const STRANGERS: u32 = 128;

/// Calls at once on one connection to what needs no token.
const OPEN_CALLS: usize = 8;

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    /// Whether a call on it had a good token.
    good: AtomicBool,
    /// Calls that had none before the first that had.
    strangers: AtomicU32,
    open_calls: AtomicUsize,
    /// What is held for its calls: requests that are not whole, and answers that were not
    /// taken.
    pub(crate) bytes: AtomicUsize,
    pace: Mutex<Pace>,
    /// Whether its certificate, where one is asked for, may be that of a service of the suite.
    of_suite: AtomicBool,
    /// When it is so old that its streams go elsewhere, and over how long they do.
    ages: Option<(Instant, Duration)>,
    /// Cancelled when the connection must end.
    pub(crate) end: CancellationToken,
}

/// A call that needs no token, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenCall(std::sync::Arc<Line>);

impl Line {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            good: AtomicBool::new(false),
            strangers: AtomicU32::new(0),
            open_calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            pace: Mutex::new(pace),
            of_suite: AtomicBool::new(true),
            ages: None,
            end: CancellationToken::new(),
        }
    }

    /// One that is old at a time, from when on its streams go, within so long.
    pub(crate) fn aging(pace: Pace, at: Instant, within: Duration) -> Self {
        Self { ages: Some((at, within)), ..Self::new(pace) }
    }

    /// Its client showed no certificate of a service of the suite, and one is asked for.
    pub(crate) fn is_not_of_suite(&self) {
        self.of_suite.store(false, Ordering::Relaxed);
    }

    /// Whether calls of a service of the suite may come over it.
    pub(crate) fn is_of_suite(&self) -> bool {
        self.of_suite.load(Ordering::Relaxed)
    }

    /// When it is old, if it gets old.
    pub(crate) fn ages_at(&self) -> Option<Instant> {
        self.ages.map(|(at, _)| at)
    }

    /// When a stream that begins now goes elsewhere because its connection is old: not all of
    /// them at once.
    pub(crate) fn streams_leave(&self) -> Option<Instant> {
        self.ages.map(|(at, within)| at + rand::random_range(Duration::ZERO..=within))
    }

    /// Somebody with a good token called.
    pub(crate) fn is_known_now(&self) {
        // Mostly it is set: reading does not take the memory from other cores.
        if !self.is_known() {
            self.good.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody with a good token ever called.
    pub(crate) fn is_known(&self) -> bool {
        self.good.load(Ordering::Relaxed)
    }

    /// A call was refused for want of a good token.
    pub(crate) fn met_stranger(&self) {
        if !self.is_known() && self.strangers.fetch_add(1, Ordering::Relaxed) + 1 >= STRANGERS {
            self.end.cancel();
        }
    }

    /// A place for one more call that needs no token.
    pub(crate) fn open_call(self: &std::sync::Arc<Self>) -> Option<OpenCall> {
        let call = OpenCall(std::sync::Arc::clone(self));
        (self.open_calls.fetch_add(1, Ordering::Relaxed) < OPEN_CALLS).then_some(call)
    }

    /// The pace of what it does in vain.
    pub(crate) fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How fast a connection may do what leads to nothing: calls that are reset or refused.
/// Whoever is faster is read more slowly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Below 0: taken ahead of time.
    left: i64,
    most: u32,
    /// How soon one more is allowed.
    every: Duration,
    /// Up to when time was counted.
    counted: Instant,
}

impl Pace {
    pub(crate) fn new(most: u32, every: Duration) -> Self {
        Self { left: most.into(), most, every, counted: Instant::now() }
    }

    pub(crate) fn take(&mut self) {
        self.count();
        self.left -= 1;
    }

    pub(crate) fn give(&mut self) {
        self.left = self.left.saturating_add(1).min(self.most.into());
    }

    /// How long to wait until nothing is taken ahead of time.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
        if self.left >= 0 {
            return None;
        }
        self.count();
        let ahead = u32::try_from(-self.left).unwrap_or(u32::MAX);
        (self.left < 0).then(|| self.every * ahead)
    }

    fn count(&mut self) {
        let now = Instant::now();
        let passed = (now - self.counted).as_nanos() / self.every.as_nanos().max(1);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(passed.into());
        if self.left >= self.most.into() {
            (self.left, self.counted) = (self.most.into(), now);
        } else {
            self.counted += self.every * passed;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn line() -> Arc<Line> {
        Arc::new(Line::new(Pace::new(3, Duration::from_secs(1))))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_ahead_is_waited_for() {
        let mut pace = Pace::new(3, Duration::from_secs(1));
        for _ in 0..3 {
            pace.take();
            assert_eq!(pace.wait(), None);
        }
        pace.take();
        pace.take();
        assert_eq!(pace.wait(), Some(Duration::from_secs(2)));
        pace.give();
        assert_eq!(pace.wait(), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.wait(), None);
        // No more than the most is saved up.
        tokio::time::advance(Duration::from_hours(1)).await;
        for _ in 0..4 {
            pace.take();
        }
        assert_eq!(pace.wait(), Some(Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn strangers_end_a_connection_that_never_had_a_good_token() {
        let line = line();
        (1..STRANGERS).for_each(|_| line.met_stranger());
        assert!(!line.end.is_cancelled());
        line.met_stranger();
        assert!(line.end.is_cancelled());
        let line = self::line();
        line.is_known_now();
        (0..2 * STRANGERS).for_each(|_| line.met_stranger());
        assert!(!line.end.is_cancelled());
    }

    #[tokio::test]
    async fn calls_without_a_token_are_few_and_give_their_places_back() {
        let line = line();
        let held: Vec<_> = (0..OPEN_CALLS).map(|_| line.open_call().expect("a place")).collect();
        assert!(line.open_call().is_none());
        drop(held);
        assert!(line.open_call().is_some());
    }
}
