//! A hook that is silent is left alone for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// After so many failures in a row it is not asked for a while.
const FAILURES: u32 = 5;

/// For how long: at first, and at most. Twice as long after each attempt that failed.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Whether a hook is asked. Once a pause is over one message goes to it, and tells.
///
/// ```text
/// asked     f f f f f            f                  ok ok ok
/// not asked           1 s: ....    2 s: ..........
/// ```
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    pause: Duration,
    until: Option<Instant>,
}

/// That the hook may be asked once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    AsEver,
    /// To learn whether it works again.
    Attempt,
}

impl Breaker {
    /// Whether to ask the hook now. If it is an attempt, the others wait for another pause.
    pub(super) fn admit(&self) -> Option<Admitted> {
        let mut state = self.lock();
        let (Some(until), now) = (state.until, Instant::now()) else {
            return Some(Admitted::AsEver);
        };
        if now < until {
            return None;
        }
        state.until = Some(now + state.pause);
        Some(Admitted::Attempt)
    }

    pub(super) fn worked(&self) {
        if std::mem::take(&mut *self.lock()).until.is_some() {
            tracing::info!("the hook is asked again for what a tenant writes");
        }
    }

    pub(super) fn failed(&self, admitted: &Admitted) {
        let mut state = self.lock();
        // Of several that were asked at once the later ones tell nothing new.
        if state.until.is_some() && *admitted == Admitted::AsEver {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return;
        }
        let pause = if state.pause.is_zero() { FIRST } else { (state.pause * 2).min(LONGEST) };
        (state.pause, state.until) = (pause, Some(Instant::now() + pause));
        tracing::warn!(?pause, "the hook is silent, and not asked for what a tenant writes");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_fails_is_left_alone_for_longer_and_longer() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            let admitted = breaker.admit().expect("asked");
            breaker.failed(&admitted);
        }
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert_eq!(breaker.admit(), None, "{seconds}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(breaker.admit(), Some(Admitted::Attempt), "{seconds}");
            assert_eq!(breaker.admit(), None, "one attempt");
            breaker.failed(&Admitted::Attempt);
        }
        tokio::time::advance(LONGEST).await;
        assert_eq!(breaker.admit(), Some(Admitted::Attempt));
        breaker.worked();
        let admitted = breaker.admit().expect("asked");
        breaker.failed(&admitted);
        assert_eq!(breaker.admit(), Some(Admitted::AsEver), "one failure is none");
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_hang_at_once_make_no_longer_pause_than_a_few() {
        let breaker = Breaker::default();
        let asked: Vec<_> = (0..32).map(|_| breaker.admit().expect("asked")).collect();
        for admitted in &asked {
            breaker.failed(admitted);
        }
        assert_eq!(breaker.admit(), None);
        tokio::time::advance(FIRST).await;
        assert_eq!(breaker.admit(), Some(Admitted::Attempt));
    }

    #[test]
    fn failures_that_are_not_in_a_row_open_nothing() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            for _ in 1..FAILURES {
                breaker.failed(&Admitted::AsEver);
            }
            breaker.worked();
        }
        assert_eq!(breaker.admit(), Some(Admitted::AsEver));
    }
}
