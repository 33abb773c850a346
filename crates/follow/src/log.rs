//! One log that streams follow, as far as its node knows it: the sans-IO heart of the read path.
//! Hints, healed events and views go in; streams pull frames out.
//!
//! A ring of 4 events that has passed 200, when a hint brings 202 and 203:
//!
//! ```text
//!     65 ... 128 | 129 ... 192 | 193 ...          blocks 1, 2, 3: read when a stream needs them
//!                            197 198 199 200      ring: its floor is 196, its head 200
//!                                            201  hole
//!                                        202 203  ahead: held until 201 comes or is healed
//! ```
//!
//! No stream gets 202 before 201. When that comes, all three pass into the ring, 197 to 199
//! leave it, and every stream is woken once.
//!
//! A stream that stands at 100 has fallen out of the ring. It goes on at its own pace:
//!
//! ```text
//!     pull                ->  block 1 is needed: a job reads it, once for all who want it
//!     pull with block 1   ->  101 ... 128; block 2 is needed
//!     pull with block 2   ->  129 ... 192; block 3 is needed
//!     pull with block 3   ->  193 ... 200: no further than the ring has passed, though the
//!                             block may hold more; from here on the ring serves it again
//! ```
//!
//! A block is of a generation. A deletion that the ring passes begins the next one, so that
//! blocks that were read before, and may hold the deleted content, are read anew.
//!
//! What a log lets go of at its beginning leaves the ring, too, and no stream gets it any more.
//! One that stands before it looks at the log again, and is told where it goes on. A node learns
//! of it by the event that cleared the history; of what merely grew old by whoever attaches to
//! the log, and at the latest when it looks at the heads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parlance_log::{EpochId, History, View};
use parlance_types::{Seq, UserId};

use super::ahead::Ahead;
use super::batch::Batch;
use super::blocks::{Block, BlockId, Generation};
use super::budget::Budget;
use super::cursor::{Cursor, End};
use super::entry::{Entry, Place};
use super::lost::Lost;
use super::notice::{By, Notice, Span};
use super::ring::{Accepted, Limits, Passed, Ring};

/// Names a stream's interest in one log.
pub(crate) type SubscriptionId = u64;

/// One log, as far as a node knows it. `W` wakes a stream.
#[derive(Debug)]
pub(crate) struct LogState<W> {
    place: Arc<Place>,
    limits: Limits,
    budget: Arc<Budget>,
    generations: Arc<AtomicU64>,
    generation: Generation,
    /// `None` until the log was looked at.
    live: Option<Live>,
    ahead: Ahead,
    /// Hints of several epochs came before the ring ran: which of them is the present one,
    /// and what there is of it, only the database knows.
    mixed: bool,
    subscriptions: HashMap<SubscriptionId, Subscription<W>>,
    next: SubscriptionId,
}

#[derive(Debug)]
struct Live {
    ring: Ring,
    /// The head that the ring began at.
    began: Seq,
    history: History,
    /// The first event that is left, as far as it is known.
    first: Seq,
    /// Whose access was taken since the ring began.
    lost: Lost,
}

#[derive(Debug)]
struct Subscription<W> {
    waker: W,
    user: Option<UserId>,
    /// The events that took the user's access, of those not known to be over.
    lost: Vec<Seq>,
    /// The stream was woken and has not pulled since.
    woken: bool,
    /// The ring was dropped under the stream.
    stale: bool,
}

/// Events that are missing in front of those that were heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Missing {
    #[default]
    Nothing,
    /// They may only be late: others behind them are here.
    Crossing,
    /// They must be read.
    Gap,
}

/// The outcome of a hint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Streams have something to pull.
    pub advanced: bool,
    pub missing: Missing,
    /// The hint is of another epoch: the database must be asked.
    pub suspect: bool,
}

/// The outcome of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// The ring goes on from here at least; `behind` if it must be healed first.
    Running { behind: bool },
    /// The view does not go with the ring, or with what was heard of: the database must be
    /// asked, and looked at again.
    Suspect,
}

/// The outcome of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// There is nothing more; the stream will be woken.
    Idle,
    /// The batch is full; there is more.
    More,
    /// This block is needed to go on.
    Block(BlockId),
    /// The block does not hold what it must: the database could not be read right.
    Hole,
    /// The room is over for this stream.
    End(End),
    /// The stream must look at the log again: history may have been rewound.
    Stale,
}

impl<W> LogState<W> {
    pub(crate) fn new(
        place: Arc<Place>,
        limits: Limits,
        budget: Arc<Budget>,
        generations: Arc<AtomicU64>,
    ) -> Self {
        Self {
            place,
            limits,
            generation: generations.fetch_add(1, Ordering::Relaxed),
            generations,
            live: None,
            ahead: Ahead::new(EpochId::default(), 0, &budget),
            budget,
            mixed: false,
            subscriptions: HashMap::new(),
            next: 0,
        }
    }

    /// Registers a stream; from here on nothing that happens is missed.
    pub(crate) fn subscribe(&mut self, waker: W, user: Option<UserId>) -> SubscriptionId {
        self.next += 1;
        let subscription =
            Subscription { waker, user, lost: Vec::new(), woken: false, stale: false };
        self.subscriptions.insert(self.next, subscription);
        self.next
    }

    pub(crate) fn unsubscribe(&mut self, id: SubscriptionId) {
        self.subscriptions.remove(&id);
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// The epoch and head that the ring knows, once it runs.
    pub(crate) fn position(&self) -> Option<(&EpochId, Seq)> {
        self.live.as_ref().map(|live| (live.ring.epoch(), live.ring.head()))
    }

    /// The first event that is missing in front of what was heard of, and its epoch.
    pub(crate) fn missing(&self) -> Option<(EpochId, Seq)> {
        let ring = &self.live.as_ref()?.ring;
        (self.ahead.top > ring.head()).then(|| (ring.epoch().clone(), ring.head() + 1))
    }

    /// Whether a notice is about the log as it is now.
    pub(crate) fn admits(&self, notice: &Notice) -> bool {
        let lasts = matches!(notice.span, Span::Until(..));
        self.is_of(notice.epoch.as_ref()) && !(lasts && self.has_lost(notice.by.as_ref()))
    }

    /// Whether the ring runs, and is of this epoch, if it is one.
    pub(crate) fn is_of(&self, epoch: Option<&EpochId>) -> bool {
        let of = |live: &Live| epoch.is_none_or(|epoch| epoch == live.ring.epoch());
        self.live.as_ref().is_some_and(of)
    }

    /// Whether a member may have lost access since.
    pub(crate) fn has_lost(&self, by: Option<&By>) -> bool {
        let Some(by) = by else { return false };
        self.live.as_ref().is_none_or(|live| live.lost.has(&by.user, by.as_of))
    }

    /// The streams of these users; `None`: all.
    pub(crate) fn wakers(&self, of: Option<&[UserId]>) -> impl Iterator<Item = &W> {
        let is_one = move |user: &UserId| of.is_none_or(|of| of.iter().any(|one| one == user));
        let subscriptions = self.subscriptions.values();
        let told =
            subscriptions.filter(move |one| of.is_none() || one.user.as_ref().is_some_and(is_one));
        told.map(|subscription| &subscription.waker)
    }

    /// Takes a view of the log: starts the ring there if it does not run.
    pub(crate) fn start(&mut self, view: &View) -> Started {
        if self.live.is_none() {
            let (place, budget) = (Arc::clone(&self.place), Arc::clone(&self.budget));
            let ring = Ring::new(place, view.epoch.clone(), view.head, self.limits, budget);
            let (history, first) = (view.rules.history, view.first_seq);
            let (began, lost) = (view.head, Lost::since(view.head));
            self.live = Some(Live { ring, began, history, first, lost });
            if self.ahead.epoch != view.epoch {
                self.ahead = Ahead::new(view.epoch.clone(), 0, &self.budget);
            }
            self.settle();
            if std::mem::take(&mut self.mixed) {
                return Started::Suspect;
            }
        }
        match &self.live {
            // Nobody passed the events between the view and a ring that began later; and what
            // a ring lacks that was left behind is gone.
            Some(live)
                if *live.ring.epoch() == view.epoch
                    && view.head >= live.began
                    && view.first_seq <= live.ring.head() + 1 =>
            {
                self.ahead.top = self.ahead.top.max(view.head);
                self.prune(view.first_seq);
                Started::Running { behind: self.missing().is_some() }
            }
            _ => Started::Suspect,
        }
    }

    /// Takes events that were just stored, or healed, in ascending order. `last`
    /// is the last one there is, also if it is not among them.
    pub(crate) fn hear(
        &mut self,
        epoch: &EpochId,
        entries: impl IntoIterator<Item = Entry>,
        last: Seq,
    ) -> Heard {
        if let Some((running, _)) = self.position() {
            if running != epoch {
                return Heard { suspect: true, ..Heard::default() };
            }
        } else if self.ahead.epoch != *epoch {
            self.mixed |= self.ahead.top > 0;
            self.ahead = Ahead::new(epoch.clone(), 0, &self.budget);
        }
        self.ahead.top = self.ahead.top.max(last);
        let mut advanced = false;
        for entry in entries {
            advanced |= self.offer(entry);
        }
        advanced |= self.settle();
        let missing = match self.missing() {
            None => Missing::Nothing,
            Some(_) if self.ahead.is_empty() => Missing::Gap,
            Some(_) => Missing::Crossing,
        };
        Heard { advanced, missing, suspect: false }
    }

    /// Learns that nothing is left before `first`. Says whether that is news: then streams
    /// that are behind must look again.
    pub(crate) fn prune(&mut self, first: Seq) -> bool {
        let Some(live) = self.live.as_mut().filter(|live| first > live.first) else { return false };
        live.first = first;
        live.ring.prune(first);
        self.renew();
        true
    }

    /// Forgets everything: history may have been rewound. Streams must look again.
    pub(crate) fn drop_ring(&mut self) {
        self.live = None;
        self.mixed = false;
        self.ahead = Ahead::new(EpochId::default(), 0, &self.budget);
        self.renew();
        for subscription in self.subscriptions.values_mut() {
            subscription.stale = true;
            subscription.lost.clear();
        }
    }

    /// Lets go of what the node has no room for any more.
    pub(crate) fn shrink(&mut self) {
        if let Some(live) = &mut self.live {
            live.ring.shrink();
        }
    }

    /// Gives up on numbers that the database does not hold.
    pub(crate) fn give_up(&mut self) {
        if let Some(live) = &self.live {
            let (epoch, top) = (live.ring.epoch().clone(), live.ring.head());
            self.ahead = Ahead::new(epoch, top, &self.budget);
        }
    }

    /// Wakes every stream that is not awake.
    pub(crate) fn wake(&mut self, mut wake: impl FnMut(&W)) {
        for subscription in self.subscriptions.values_mut() {
            if !subscription.woken {
                subscription.woken = true;
                wake(&subscription.waker);
            }
        }
    }

    /// Puts what comes next for a stream into the batch, from the ring or from `block`.
    pub(crate) fn pull(
        &mut self,
        id: SubscriptionId,
        cursor: &mut Cursor,
        block: Option<&Block>,
        batch: &mut Batch,
    ) -> Pull {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return Pull::Stale };
        subscription.woken = false;
        let Some(live) = self.live.as_ref().filter(|live| {
            // A subscription made after the drop is not stale, but its epoch tells.
            !subscription.stale && *live.ring.epoch() == cursor.epoch
        }) else {
            return Pull::Stale;
        };
        let lost = subscription.lost.iter().copied().find(|lost| *lost > cursor.joined());
        if let Some(lost) = lost
            && cursor.position() + 1 != lost
        {
            return Pull::End(End::Removed(lost));
        }
        batch.extend(cursor.skip(live.history));
        if cursor.position().saturating_add(1) < live.first {
            return Pull::Stale;
        }
        batch.extend(cursor.catch_up());
        let range = (live.first, live.ring.head());
        batch.behind = range.1 - cursor.position();
        while cursor.position() < live.ring.head() {
            let position = cursor.position();
            let end = match (live.ring.after(position), block) {
                (Some(entries), _) => batch.fill(cursor, &self.place, range, entries),
                (None, Some(block))
                    if block.id == BlockId::holding(position + 1, self.generation) =>
                {
                    batch.fill(cursor, &self.place, range, block.after(position))
                }
                (None, _) => return Pull::Block(BlockId::holding(position + 1, self.generation)),
            };
            if let Some(end) = end {
                return Pull::End(end);
            }
            if batch.is_full() {
                return Pull::More;
            }
            if cursor.position() == position {
                return Pull::Hole;
            }
        }
        Pull::Idle
    }

    fn offer(&mut self, entry: Entry) -> bool {
        let accepted = self.live.as_mut().map(|live| live.ring.accept(entry.clone()));
        match accepted {
            Some(Accepted::Passed(passed)) => self.passed(&passed),
            Some(Accepted::Known) => return false,
            Some(Accepted::Gap) | None => {
                self.ahead.hold(entry, self.limits);
                return false;
            }
        }
        true
    }

    /// Takes what waited for an event in front of it.
    fn settle(&mut self) -> bool {
        let mut advanced = false;
        while let Some(live) = &mut self.live {
            let Some(entry) = self.ahead.next(live.ring.head()) else { break };
            if let Accepted::Passed(passed) = live.ring.accept(entry) {
                self.passed(&passed);
                advanced = true;
            }
        }
        advanced
    }

    fn passed(&mut self, passed: &Passed) {
        if passed.deletion {
            self.renew();
        }
        let (Some(effects), Some(live)) = (&passed.effects, &mut self.live) else { return };
        if let Some(rules) = effects.rules {
            live.history = rules.history;
        }
        if effects.first > 0 {
            self.prune(effects.first);
        }
        if effects.lost.is_empty() {
            return;
        }
        let Some(live) = &mut self.live else { return };
        live.lost.add(&effects.lost, passed.seq);
        for subscription in self.subscriptions.values_mut() {
            if subscription.user.as_ref().is_some_and(|user| effects.lost.contains(user)) {
                subscription.lost.push(passed.seq);
            }
        }
    }

    fn renew(&mut self) {
        self.generation = self.generations.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use parlance_log::{Blocked, Hidden, RoomKind, Rules};
    use parlance_types::{LogId, RoomId, TenantId};
    use uuid::Uuid;

    use super::*;

    fn state() -> LogState<()> {
        let place = Place { log_id: LogId(Uuid::from_u128(1)), room_id: RoomId::new("r") };
        let limits = Limits { events: 8, bytes: 10_000 };
        LogState::new(Arc::new(place), limits, Arc::new(Budget::new(10_000)), Arc::default())
    }

    fn epoch(id: &str) -> EpochId {
        EpochId(id.to_owned())
    }

    fn view(epoch_id: &str, head: Seq) -> View {
        View {
            tenant_id: TenantId::new("t"),
            log_id: LogId(Uuid::from_u128(1)),
            room_id: RoomId::new("r"),
            kind: RoomKind::Group,
            rules: Rules::default(),
            head,
            head_time: 0,
            epoch: epoch(epoch_id),
            first_seq: 1,
            closed: None,
            member: None,
            suspended: None,
            blocked: Blocked::default(),
            hidden: Hidden::default(),
        }
    }

    #[test]
    fn what_was_heard_of_before_the_ring_ran_is_missing_when_it_does() {
        let mut state = state();
        state.hear(&epoch("e"), [], 5);
        assert_eq!(state.start(&view("e", 3)), Started::Running { behind: true });
        assert_eq!(state.missing(), Some((epoch("e"), 4)));
    }

    #[test]
    fn hints_of_two_epochs_before_the_ring_runs_are_looked_into() {
        let mut state = state();
        state.hear(&epoch("new"), [], 4);
        state.hear(&epoch("old"), [], 3);
        assert_eq!(state.start(&view("new", 3)), Started::Suspect);
        assert_eq!(state.start(&view("new", 4)), Started::Running { behind: true });
    }

    #[test]
    fn a_view_of_before_the_ring_began_is_looked_at_again() {
        let mut state = state();
        assert_eq!(state.start(&view("e", 5)), Started::Running { behind: false });
        // A removal at 4 would not be known.
        assert_eq!(state.start(&view("e", 3)), Started::Suspect);
        assert_eq!(state.start(&view("e", 5)), Started::Running { behind: false });
    }
}
