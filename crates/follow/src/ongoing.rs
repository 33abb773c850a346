//! Things that go on in the rooms of one stream (a member is typing), as its reader was told.
//! Each ends by itself: the node that said it need not live to take it back.

use std::collections::BTreeMap;

use parlance_proto::frame::Frame;
use parlance_types::{LogId, Seq, UserId};
use tokio::time::Instant;

use super::notice::{By, Key, Notice, Span};

/// So much at a time in one stream; more is not told.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Ongoing(BTreeMap<(LogId, Key), One>);

#[derive(Debug)]
struct One {
    until: Instant,
    /// What tells that it has ended.
    end: Frame,
    by: Option<By>,
}

impl Ongoing {
    /// Takes a notice. Returns whether it is news to the reader.
    pub(super) fn hear(&mut self, log_id: LogId, notice: &Notice) -> bool {
        let key = (log_id, notice.key.clone());
        match &notice.span {
            Span::Moment => true,
            Span::Until(until, end) if self.0.contains_key(&key) || self.0.len() < MOST => {
                let one = One { until: *until, end: end.clone(), by: notice.by.clone() };
                self.0.insert(key, one).is_none()
            }
            Span::Until(..) => false,
            Span::Over => self.0.remove(&key).is_some(),
        }
    }

    /// When the first of it ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|one| one.until).min()
    }

    /// Takes out what has ended; what tells it.
    pub(super) fn ended(&mut self, now: Instant) -> impl Iterator<Item = Frame> {
        let ended = self.0.extract_if(.., move |_, one| one.until <= now);
        ended.map(|(_, one)| one.end)
    }

    /// Takes out what goes on in a room that is no longer followed; what tells its end.
    pub(super) fn leave(&mut self, log_id: LogId) -> impl Iterator<Item = Frame> {
        let left = self.0.extract_if(.., move |(log, _), _| *log == log_id);
        left.map(|(_, one)| one.end)
    }

    /// Takes out what is by users whose access the event `at` took; what tells its end.
    pub(super) fn lost<'a>(
        &'a mut self,
        log_id: LogId,
        users: &'a [UserId],
        at: Seq,
    ) -> impl Iterator<Item = Frame> + 'a {
        let lost = move |by: &By| by.as_of < at && users.contains(&by.user);
        let lost = self.0.extract_if(.., move |(log, _), one| {
            *log == log_id && one.by.as_ref().is_some_and(lost)
        });
        lost.map(|(_, one)| one.end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::notice::Merge;

    const LOG: LogId = LogId(Uuid::from_u128(1));

    fn end(of: &str) -> Frame {
        Frame::from_encoded(Bytes::copy_from_slice(of.as_bytes()))
    }

    fn notice(of: &str, until: Option<Instant>) -> Notice {
        let about = Bytes::copy_from_slice(of.as_bytes());
        let span = until.map_or(Span::Over, |until| Span::Until(until, end(of)));
        let (frame, merge) = (Frame::default(), Merge::Latest);
        let by = Some(By { user: UserId::new(of), as_of: 5, echo: false });
        Notice { key: Key { kind: 1, about }, frame, merge, span, by, to: None, epoch: None }
    }

    #[test]
    fn only_what_changes_is_told_and_everything_ends() {
        let mut ongoing = Ongoing::default();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let hear = |ongoing: &mut Ongoing, until| ongoing.hear(LOG, &notice("ann", until));
        assert!(!hear(&mut ongoing, None));
        assert!(hear(&mut ongoing, Some(now + second)));
        assert!(!hear(&mut ongoing, Some(now + 2 * second)), "a refresh is no news");
        assert_eq!(ongoing.next(), Some(now + 2 * second));
        assert_eq!(ongoing.ended(now + second).count(), 0);
        assert_eq!(ongoing.ended(now + 2 * second).collect::<Vec<_>>(), [end("ann")]);
        assert_eq!(ongoing.next(), None);
        assert!(hear(&mut ongoing, Some(now)));
        assert!(hear(&mut ongoing, None));
    }

    #[test]
    fn it_ends_with_the_membership_it_began_in() {
        let mut ongoing = Ongoing::default();
        let (now, users) = (Instant::now(), ["ann", "bob"].map(UserId::new));
        for of in ["ann", "zoe"] {
            assert!(ongoing.hear(LOG, &notice(of, Some(now))));
        }
        // An earlier membership ended, or one in another room.
        assert_eq!(ongoing.lost(LOG, &users, 5).count(), 0);
        assert_eq!(ongoing.lost(LogId(Uuid::from_u128(2)), &users, 6).count(), 0);
        assert_eq!(ongoing.lost(LOG, &users, 6).collect::<Vec<_>>(), [end("ann")]);
        assert!(!ongoing.hear(LOG, &notice("ann", None)));
        assert!(ongoing.hear(LOG, &notice("zoe", None)));
    }

    #[test]
    fn a_stream_keeps_a_bounded_number_of_them() {
        let mut ongoing = Ongoing::default();
        let now = Instant::now();
        let user = |n: usize, until| notice(&n.to_string(), until);
        let news = (0..2 * MOST).filter(|n| ongoing.hear(LOG, &user(*n, Some(now)))).count();
        assert_eq!(news, MOST);
        assert!(ongoing.hear(LOG, &user(0, None)), "what is in it still ends");
        assert_eq!(ongoing.leave(LOG).count(), MOST - 1);
        assert_eq!(ongoing.next(), None);
    }
}
