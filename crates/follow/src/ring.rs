//! The recent events of one log: contiguous, encoded, bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use parlance_log::{Effects, EpochId, Kind};
use parlance_types::Seq;

use super::budget::{Budget, Share};
use super::entry::{Entry, Place};

/// Bytes that a ring may hold while the node's budget is spent.
const FLOOR: usize = 8 * 1024;

/// How much a ring holds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events, at least 1.
    pub events: usize,
    /// Bytes that its events take; the newest event is held whatever its size.
    pub bytes: usize,
}

/// The events `floor+1 ..= head` of a log, all of one epoch's view of it.
///
/// A ring never gives out what it knows to be gone: content that was deleted at `d ≤ head` is
/// not in it.
#[derive(Debug)]
pub(crate) struct Ring {
    place: Arc<Place>,
    epoch: EpochId,
    head: Seq,
    entries: VecDeque<Entry>,
    held: Share,
    limits: Limits,
}

/// The fate of an offered event.
#[derive(Clone, Debug)]
pub(crate) enum Accepted {
    /// It was passed before.
    Known,
    /// Events between the head and it are missing; it was not taken.
    Gap,
    /// It is the new head.
    Passed(Passed),
}

/// The consequences of passing an event.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub seq: Seq,
    pub effects: Option<Arc<Effects>>,
    /// Copies of the log's events that were made before may hold deleted content.
    pub deletion: bool,
}

impl Ring {
    /// A ring that continues after `head`.
    pub(crate) const fn new(
        place: Arc<Place>,
        epoch: EpochId,
        head: Seq,
        limits: Limits,
        budget: Arc<Budget>,
    ) -> Self {
        Self { place, epoch, head, entries: VecDeque::new(), held: Share::new(budget), limits }
    }

    pub(crate) const fn epoch(&self) -> &EpochId {
        &self.epoch
    }

    /// The last event passed.
    pub(crate) const fn head(&self) -> Seq {
        self.head
    }

    /// The ring holds what comes after this.
    pub(crate) fn floor(&self) -> Seq {
        self.entries.front().map_or(self.head, |entry| entry.seq - 1)
    }

    /// Takes the event after the head, and no other.
    pub(crate) fn accept(&mut self, entry: Entry) -> Accepted {
        if entry.seq <= self.head {
            return Accepted::Known;
        }
        if entry.seq > self.head + 1 {
            return Accepted::Gap;
        }
        let deletion = entry.kind == Kind::Delete;
        if let (true, Some(target)) = (deletion, entry.target) {
            self.blank(target);
        }
        let passed = Passed { seq: entry.seq, effects: entry.effects.clone(), deletion };
        self.head = entry.seq;
        self.held.take(entry.bytes());
        self.entries.push_back(entry);
        self.shrink();
        Accepted::Passed(passed)
    }

    /// The events after `position`, in order; `None` if some of them left the ring.
    pub(crate) fn after(&self, position: Seq) -> Option<impl Iterator<Item = &Entry>> {
        let skip = usize::try_from(position - self.floor()).ok()?;
        Some(self.entries.iter().skip(skip))
    }

    fn blank(&mut self, target: Seq) {
        for at in 0..self.entries.len() {
            if !self.entries[at].belongs_to(target) {
                continue;
            }
            let old = self.entries[at].bytes();
            if let Ok(tombstone) = self.entries[at].tombstone(&self.place) {
                self.held.give_back(old);
                self.held.take(tombstone.bytes());
                self.entries[at] = tombstone;
            } else {
                // Cannot be blanked, so cannot stay: it and all before it leave.
                for gone in self.entries.drain(..=at) {
                    self.held.give_back(gone.bytes());
                }
                return self.blank(target);
            }
        }
    }

    /// Lets go of what comes before `first`.
    pub(crate) fn prune(&mut self, first: Seq) {
        while self.entries.front().is_some_and(|entry| entry.seq < first) {
            if let Some(gone) = self.entries.pop_front() {
                self.held.give_back(gone.bytes());
            }
        }
    }

    /// Lets the oldest go while there are too many.
    pub(crate) fn shrink(&mut self) {
        while self.entries.len() > 1 && self.is_too_large() {
            if let Some(gone) = self.entries.pop_front() {
                self.held.give_back(gone.bytes());
            }
        }
    }

    fn is_too_large(&self) -> bool {
        let bytes = self.held.bytes();
        self.entries.len() > self.limits.events
            || bytes > self.limits.bytes
            || bytes > FLOOR && self.held.budget().is_over()
    }
}

#[cfg(test)]
mod tests {
    use parlance_log::{StoredEvent, testing};
    use parlance_types::{LogId, MessageId, RoomId};
    use uuid::Uuid;

    use super::*;

    fn place() -> Arc<Place> {
        Arc::new(Place { log_id: LogId(Uuid::from_u128(1)), room_id: RoomId::new("r") })
    }

    fn ring(head: Seq, events: usize, bytes: usize) -> Ring {
        ring_of(head, Limits { events, bytes }, Arc::new(Budget::new(usize::MAX)))
    }

    fn ring_of(head: Seq, limits: Limits, budget: Arc<Budget>) -> Ring {
        Ring::new(place(), EpochId::default(), head, limits, budget)
    }

    fn sent(seq: Seq) -> Entry {
        entry(seq, testing::sent(None, &"x".repeat(100)))
    }

    fn entry(seq: Seq, payload: bytes::Bytes) -> Entry {
        Entry::encode(&place(), &StoredEvent { seq, time: 0, payload }).expect("an entry")
    }

    fn held(ring: &Ring) -> Vec<Seq> {
        ring.after(ring.floor()).into_iter().flatten().map(|entry| entry.seq).collect()
    }

    #[test]
    fn only_the_event_after_the_head_is_accepted() {
        let mut ring = ring(5, 10, 10_000);
        assert!(matches!(ring.accept(sent(5)), Accepted::Known));
        assert!(matches!(ring.accept(sent(7)), Accepted::Gap));
        assert!(matches!(ring.accept(sent(6)), Accepted::Passed(_)));
        assert!(matches!(ring.accept(sent(6)), Accepted::Known));
        assert_eq!((ring.head(), ring.floor(), held(&ring)), (6, 5, vec![6]));
    }

    #[test]
    fn the_oldest_leave_when_there_are_too_many_or_they_are_too_large() {
        let (mut by_count, mut by_bytes) = (ring(0, 3, 10_000), ring(0, 100, 500));
        for seq in 1..=10 {
            by_count.accept(sent(seq));
            by_bytes.accept(sent(seq));
        }
        assert_eq!(held(&by_count), [8, 9, 10]);
        assert!((1..=4).contains(&held(&by_bytes).len()));
        assert!(by_count.after(6).is_none());
        assert_eq!(by_count.after(10).into_iter().flatten().count(), 0);
    }

    #[test]
    fn a_deletion_blanks_the_message_and_its_edits_and_nothing_else() {
        let mut ring = ring(0, 100, 100_000);
        let target = MessageId { log_id: place().log_id, seq: 1 };
        ring.accept(sent(1));
        ring.accept(sent(2));
        ring.accept(entry(3, testing::edited(target, "edit")));
        let sizes = |ring: &Ring| -> Vec<usize> {
            ring.after(0).into_iter().flatten().map(Entry::bytes).collect()
        };
        let before = sizes(&ring);
        let passed = ring.accept(entry(4, testing::deleted(target)));
        assert!(matches!(passed, Accepted::Passed(Passed { seq: 4, deletion: true, .. })));
        let after = sizes(&ring);
        assert!(after[0] < before[0] - 100 && after[1] == before[1] && after[2] < before[2]);
        assert_eq!(ring.held.bytes(), after.iter().sum::<usize>());
    }

    #[test]
    fn rings_shrink_while_the_budget_of_their_node_is_spent() {
        let limits = Limits { events: 1000, bytes: 1_000_000 };
        let budget = Arc::new(Budget::new(100_000));
        let fill = |ring: &mut Ring| {
            for _ in 0..300 {
                ring.accept(sent(ring.head() + 1));
            }
        };
        let mut first = ring_of(0, limits, Arc::clone(&budget));
        fill(&mut first);
        let before = held(&first).len();
        assert!(before == 300 && !budget.is_over());
        let mut second = ring_of(0, limits, Arc::clone(&budget));
        fill(&mut second);
        // Whoever comes last has the floor, and never less than that.
        assert!(second.held.bytes() <= FLOOR + 1000 || !budget.is_over());
        assert!(held(&second).len() > 10 && held(&second).last() == Some(&300));
        // What a dropped ring held is free again.
        drop(first);
        fill(&mut second);
        assert!(held(&second).len() > 300 - 1);
        let held = second.held.bytes();
        drop(second);
        assert!(held > FLOOR && !budget.is_over());
    }
}
