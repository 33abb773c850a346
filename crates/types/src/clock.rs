//! Time, as a parameter.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};

/// A point in time: microseconds since the Unix epoch.
pub type Micros = i64;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Micros;
}

/// The system's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Micros {
        let elapsed = std::time::SystemTime::UNIX_EPOCH.elapsed();
        elapsed.map_or(0, |elapsed| i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that moves only when a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub const fn at(now: Micros) -> Self {
        Self(AtomicI64::new(now))
    }

    /// Moves the clock, backwards too.
    pub fn advance(&self, by: Micros) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        self.0.load(Ordering::Relaxed)
    }
}
