//! What the streams of a node were told of a room's values, which never go back, and what
//! goes on in it, for those who come later.
//!
//! ```text
//! node 2 says   ann reads 148   told: 148
//! node 1 says   ann reads 119   late, or told again after a disturbance: not told
//! a stream begins: ann is at 150, says the database; it is told 150
//! node 2 says   ann reads 149   not told: that stream would see it fall
//! node 2 says   ann reads 150   told: the others know 148
//! ```

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use parlance_log::EpochId;
use tokio::time::Instant;

use super::notice::{Notice, Span};

/// Values of a kind that are remembered. What cannot be remembered is not told.
const MOST: usize = 4096;

/// When they are too many, those older than this are forgotten: by then nobody says
/// again what was before them.
const LONG: Duration = Duration::from_mins(2);

/// How often it is looked for those.
const SWEEP: Duration = Duration::from_secs(1);

/// What goes on that a stream is told of when it begins.
const ONGOING: usize = 100;

/// The memory of one log.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The epoch that the values are of.
    epoch: Option<EpochId>,
    kinds: BTreeMap<u32, Kind>,
}

#[derive(Debug, Default)]
struct Kind {
    values: HashMap<Bytes, Value>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Value {
    /// The greatest rank that any stream was told.
    any: i64,
    /// The greatest rank that all streams were told.
    all: Option<i64>,
    /// What tells that it goes on.
    ongoing: Option<Notice>,
    at: Instant,
}

impl Told {
    /// Takes a notice for all streams. Says whether it is to be told.
    pub(super) fn hear(&mut self, notice: &Notice) -> bool {
        let Some(rank) = notice.rank() else { return true };
        if let Some(epoch) = &notice.epoch {
            self.begin(epoch);
        }
        let kind = self.kinds.entry(notice.key.kind).or_default();
        let Some(value) = kind.value(&notice.key.about) else { return false };
        if rank < value.any || value.all.is_some_and(|all| rank <= all) {
            return false;
        }
        (value.any, value.all, value.at) = (rank, Some(rank), Instant::now());
        let lasts = matches!(notice.span, Span::Until(..));
        value.ongoing = lasts.then(|| notice.clone());
        true
    }

    /// Takes values that one stream is to be told: which of them, since they are not below
    /// what it was told.
    pub(super) fn show(
        &mut self,
        epoch: &EpochId,
        kind: u32,
        values: &[(Bytes, i64)],
    ) -> Vec<bool> {
        self.begin(epoch);
        let kind = self.kinds.entry(kind).or_default();
        let show = |(about, rank): &(Bytes, i64)| {
            let Some(value) = kind.value(about) else { return false };
            let shown = *rank >= value.any;
            if shown {
                (value.any, value.at) = (*rank, Instant::now());
            }
            shown
        };
        values.iter().map(show).collect()
    }

    /// What goes on now.
    pub(super) fn ongoing(&self) -> impl Iterator<Item = &Notice> {
        let now = Instant::now();
        let ongoing = self.kinds.values().flat_map(|kind| kind.values.values());
        let ongoing = ongoing.filter_map(|value| value.ongoing.as_ref());
        let lasts =
            move |notice: &&Notice| matches!(notice.span, Span::Until(until, _) if until > now);
        ongoing.filter(lasts).take(ONGOING)
    }

    /// In another epoch values begin anew.
    fn begin(&mut self, epoch: &EpochId) {
        if self.epoch.as_ref().is_some_and(|before| before != epoch) {
            self.kinds.clear();
        }
        if self.epoch.as_ref() != Some(epoch) {
            self.epoch = Some(epoch.clone());
        }
    }
}

impl Kind {
    /// The value about something; `None` if there is no room for it.
    fn value(&mut self, about: &Bytes) -> Option<&mut Value> {
        if self.values.len() >= MOST && !self.values.contains_key(about) {
            self.sweep();
            if self.values.len() >= MOST {
                return None;
            }
        }
        Some(self.values.entry(about.clone()).or_insert_with(|| Value {
            any: i64::MIN,
            all: None,
            ongoing: None,
            at: Instant::now(),
        }))
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        if self.swept.is_none_or(|swept| now - swept >= SWEEP) {
            self.swept = Some(now);
            self.values.retain(|_, value| now - value.at < LONG);
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::frame::Frame;

    use super::*;
    use crate::notice::{Key, Merge};

    fn epoch(id: &str) -> EpochId {
        EpochId(id.to_owned())
    }

    fn notice(about: &str, rank: i64, epoch: Option<EpochId>) -> Notice {
        let key = Key { kind: 2, about: Bytes::copy_from_slice(about.as_bytes()) };
        let (frame, merge) = (Frame::default(), Merge::Greatest(rank));
        Notice { key, frame, merge, span: Span::Moment, by: None, to: None, epoch }
    }

    fn typing(rank: i64, span: Span) -> Notice {
        Notice { span, ..notice("ann", rank, None) }
    }

    #[test]
    fn values_do_not_fall_and_are_told_once() {
        let mut told = Told::default();
        let mut hear = |rank| told.hear(&notice("ann", rank, Some(epoch("e"))));
        assert!(hear(148));
        assert!(!hear(119) && !hear(148));
        assert!(hear(149));
    }

    #[test]
    fn a_value_that_one_stream_was_shown_is_still_told_to_the_others() {
        let mut told = Told::default();
        let values = |rank| [(Bytes::from_static(b"ann"), rank)];
        assert!(told.hear(&notice("ann", 148, Some(epoch("e")))));
        assert_eq!(told.show(&epoch("e"), 2, &values(147)), [false]);
        assert_eq!(told.show(&epoch("e"), 2, &values(148)), [true]);
        assert_eq!(told.show(&epoch("e"), 2, &values(150)), [true]);
        assert!(!told.hear(&notice("ann", 149, Some(epoch("e")))));
        assert!(told.hear(&notice("ann", 150, Some(epoch("e")))));
        assert!(!told.hear(&notice("ann", 150, Some(epoch("e")))));
    }

    #[test]
    fn values_begin_anew_in_another_epoch() {
        let mut told = Told::default();
        assert!(told.hear(&notice("ann", 147, None)));
        assert!(!told.hear(&notice("ann", 146, Some(epoch("e1")))));
        assert!(told.hear(&notice("ann", 148, Some(epoch("e1")))));
        assert!(told.hear(&notice("ann", 100, Some(epoch("e2")))));
        assert!(!told.hear(&notice("ann", 99, Some(epoch("e2")))));
    }

    #[test]
    fn what_cannot_be_remembered_is_not_told() {
        let mut told = Told::default();
        let heard = (0..2 * MOST).filter(|n| told.hear(&notice(&n.to_string(), 1, None)));
        assert_eq!(heard.count(), MOST);
        assert!(told.hear(&notice("0", 2, None)));
    }

    #[test]
    fn what_goes_on_is_known_until_it_ends_or_something_later_says_so() {
        let mut told = Told::default();
        let until = |millis| Instant::now() + Duration::from_millis(millis);
        assert!(told.hear(&typing(1, Span::Until(until(60_000), Frame::default()))));
        assert_eq!(told.ongoing().count(), 1);
        assert!(told.hear(&typing(3, Span::Over)));
        assert_eq!(told.ongoing().count(), 0);
        assert!(!told.hear(&typing(2, Span::Until(until(60_000), Frame::default()))));
        assert!(told.hear(&typing(4, Span::Until(until(0), Frame::default()))));
        assert_eq!(told.ongoing().count(), 0);
    }
}
