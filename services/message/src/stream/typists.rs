//! Who types in the rooms of one stream, as its reader was told. Each ends by
//! itself: whoever said so need not live to take it back.

use std::collections::BTreeMap;

use parlance_types::{LogId, UserId};
use tokio::time::Instant;

/// So many at a time in one stream; more are not told.
const TYPISTS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Typists(BTreeMap<(LogId, UserId), Instant>);

impl Typists {
    /// Takes what was heard. Returns whether the reader does not know it yet.
    pub(super) fn hear(&mut self, log_id: LogId, user_id: UserId, until: Option<Instant>) -> bool {
        let key = (log_id, user_id);
        match until {
            Some(until) if self.0.contains_key(&key) || self.0.len() < TYPISTS => {
                self.0.insert(key, until).is_none()
            }
            Some(_) => false,
            None => self.0.remove(&key).is_some(),
        }
    }

    /// When the first of them stops.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// Takes out those who have stopped.
    pub(super) fn stopped(&mut self, now: Instant) -> Vec<(LogId, UserId)> {
        self.0.extract_if(.., |_, until| *until <= now).map(|(key, _)| key).collect()
    }

    /// Takes out those in a room that is no longer followed.
    pub(super) fn leave(&mut self, log_id: LogId) -> Vec<UserId> {
        self.0.extract_if(.., |(log, _), _| *log == log_id).map(|((_, user), _)| user).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    const LOG: LogId = LogId(Uuid::from_u128(1));

    #[test]
    fn only_what_changes_is_told_and_every_typing_stops() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        let ann = || UserId::new("ann");
        let second = Duration::from_secs(1);
        assert!(!typists.hear(LOG, ann(), None));
        assert!(typists.hear(LOG, ann(), Some(now + second)));
        assert!(!typists.hear(LOG, ann(), Some(now + 2 * second)), "a refresh is no news");
        assert_eq!(typists.next(), Some(now + 2 * second));
        assert_eq!(typists.stopped(now + second), []);
        assert_eq!(typists.stopped(now + 2 * second), [(LOG, ann())]);
        assert_eq!(typists.next(), None);
        assert!(typists.hear(LOG, ann(), Some(now)));
        assert!(typists.hear(LOG, ann(), None));
    }

    #[test]
    fn a_stream_keeps_a_bounded_number_of_them() {
        let (mut typists, now) = (Typists::default(), Instant::now());
        let user = |n: usize| UserId::new(n.to_string());
        let told = (0..2 * TYPISTS).filter(|n| typists.hear(LOG, user(*n), Some(now))).count();
        assert_eq!(told, TYPISTS);
        assert!(typists.hear(LOG, user(0), None), "those who are in it still stop");
        assert_eq!(typists.leave(LOG).len(), TYPISTS - 1);
        assert_eq!(typists.next(), None);
    }
}
