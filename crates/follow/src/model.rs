//! The sans-IO core against a model: whatever is lost, repeated or reordered on the
//! way, every stream gets exactly what the log says.

mod log;

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_log::{EpochId, History, StoredEvent};
use parlance_proto::frame::Frame;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body as PbBody;
use parlance_types::Seq;
use proptest::prelude::*;
use prost::Message as _;

use self::log::{Log, place, user};
use super::batch::{Batch, BatchLimits};
use super::blocks::{Block, BlockId};
use super::budget::Budget;
use super::cursor::{Cursor, End, Out};
use super::entry::Entry;
use super::log::{LogState, Pull, Started, SubscriptionId};
use super::ring::Limits;

/// Users that come and go.
const USERS: u8 = 3;

/// The next thing to happen.
#[derive(Clone, Debug)]
enum Act {
    /// Store something, and keep the hint on its way.
    Send,
    Edit(usize),
    Delete(usize),
    Add(u8),
    Remove(u8),
    Unknown,
    Close,
    Rules(bool),
    /// Clear the log for all up to a share of it: with an event.
    Clear(u8),
    /// Let go of what is older than a share of the log, and tell nobody.
    Prune(u8),
    /// Deliver the n-th hint on its way; keep it there if `twice`.
    Hint {
        n: usize,
        twice: bool,
    },
    Lose(usize),
    /// Tell numbers only, as a head check does.
    Head,
    /// Read the next missing events from the database.
    Heal,
    /// Open a stream of a user (or of nobody) after a share of the log.
    Attach {
        user: u8,
        share: u8,
    },
    /// Let one of the streams that were woken pull once, with the block that it has read.
    Pull(usize),
    /// Let the n-th stream read the block that it asked for.
    Read(usize),
    /// Begin a new epoch in the database.
    Epoch,
    /// Forget the ring, as a node does that finds history rewound.
    Drop,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Send),
        2 => any::<usize>().prop_map(Act::Edit),
        2 => any::<usize>().prop_map(Act::Delete),
        2 => (0..USERS).prop_map(Act::Add),
        1 => (0..USERS).prop_map(Act::Remove),
        1 => Just(Act::Unknown),
        1 => any::<u8>().prop_map(|n| if n < 4 { Act::Close } else { Act::Unknown }),
        1 => any::<bool>().prop_map(Act::Rules),
        1 => any::<u8>().prop_map(|n| if n % 4 == 0 { Act::Clear(n) } else { Act::Unknown }),
        1 => any::<u8>().prop_map(|n| if n % 4 == 0 { Act::Prune(n) } else { Act::Head }),
        6 => (any::<usize>(), prop::bool::weighted(0.2))
            .prop_map(|(n, twice)| Act::Hint { n, twice }),
        2 => any::<usize>().prop_map(Act::Lose),
        1 => Just(Act::Head),
        2 => Just(Act::Heal),
        2 => (0..=USERS, any::<u8>()).prop_map(|(user, share)| Act::Attach { user, share }),
        8 => any::<usize>().prop_map(Act::Pull),
        4 => any::<usize>().prop_map(Act::Read),
        1 => any::<u8>().prop_map(|n| if n < 64 { Act::Epoch } else { Act::Head }),
        1 => any::<u8>().prop_map(|n| if n < 64 { Act::Drop } else { Act::Heal }),
    ]
}

/// One stream and everything that it was given.
struct Stream {
    id: SubscriptionId,
    user: Option<u8>,
    cursor: Cursor,
    joined: Seq,
    from: Seq,
    /// Per attach: what it had been given before, the head then, and what was left.
    attached: Vec<(usize, Seq, Seq)>,
    /// It was told that what it wants next is gone: what it had been given before, and where it
    /// goes on.
    resets: Vec<(usize, Seq)>,
    /// It may not follow the room any more, and was told so without an event.
    refused: bool,
    wanted: Option<BlockId>,
    block: Option<Block>,
    got: Vec<Out>,
    /// How much of the log the node knew when each was given.
    known: Vec<Seq>,
    end: Option<End>,
}

struct World {
    log: Log,
    state: LogState<usize>,
    hints: Vec<(EpochId, Vec<StoredEvent>)>,
    streams: Vec<Stream>,
    /// Streams that have something to pull, as far as they were told.
    ready: BTreeSet<usize>,
    batch: usize,
}

impl World {
    fn new(ring: usize, batch: usize) -> Self {
        let limits = Limits { events: ring, bytes: 100_000 };
        let budget = Arc::new(Budget::new(usize::MAX));
        let state = LogState::new(Arc::new(place()), limits, budget, Arc::default());
        let (log, hints) = (Log::default(), Vec::new());
        Self { log, state, hints, streams: Vec::new(), ready: BTreeSet::new(), batch }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Hint { n, twice } if !self.hints.is_empty() => {
                let n = n % self.hints.len();
                let (epoch, hint) = self.hints[n].clone();
                if !twice {
                    self.hints.remove(n);
                }
                let last = hint.last().map_or(0, |event| event.seq);
                let entries = hint.iter().map(|e| Entry::encode(&place(), e).expect("ours"));
                self.hear(&epoch, entries.collect(), last);
            }
            Act::Lose(n) if !self.hints.is_empty() => {
                let n = n % self.hints.len();
                self.hints.remove(n);
            }
            Act::Head => {
                self.check_epoch();
                if self.is_left_behind() {
                    return self.drop_ring();
                }
                if self.state.prune(self.log.first) {
                    self.wake();
                }
                self.hear(&self.log.epoch(), Vec::new(), self.log.head());
            }
            Act::Epoch => self.log.epoch += 1,
            Act::Drop => self.drop_ring(),
            Act::Heal => self.heal(),
            Act::Attach { user, share } => self.attach(*user, *share),
            Act::Pull(n) if !self.ready.is_empty() => {
                let n = self.ready.iter().nth(n % self.ready.len()).copied();
                self.pull(n.expect("one that is ready"));
            }
            Act::Read(n) if !self.streams.is_empty() => {
                let n = n % self.streams.len();
                self.read(n);
            }
            act => {
                if let Some(event) = self.log.store(act) {
                    self.hint(event);
                }
            }
        }
    }

    fn hint(&mut self, event: StoredEvent) {
        let epoch = self.log.epoch();
        // Now and then two commits share a hint.
        match self.hints.last_mut() {
            Some((of, hint))
                if *of == epoch
                    && hint.last().is_some_and(|e| e.seq + 1 == event.seq && e.seq % 3 == 0) =>
            {
                hint.push(event);
            }
            _ => self.hints.push((epoch, vec![event])),
        }
    }

    /// Hears as a node does.
    fn hear(&mut self, epoch: &EpochId, entries: Vec<Entry>, last: Seq) {
        let heard = self.state.hear(epoch, entries, last);
        if heard.advanced {
            self.wake();
        }
        if heard.suspect {
            self.check_epoch();
        }
    }

    /// Asks the database which epoch it is.
    fn check_epoch(&mut self) {
        if self.state.position().is_some_and(|(epoch, _)| *epoch != self.log.epoch()) {
            self.drop_ring();
        }
    }

    /// Whether events that the ring has not passed are gone.
    fn is_left_behind(&self) -> bool {
        self.state.position().is_some_and(|(_, head)| self.log.first > head + 1)
    }

    fn drop_ring(&mut self) {
        self.state.drop_ring();
        self.wake();
    }

    fn wake(&mut self) {
        let ready = &mut self.ready;
        self.state.wake(|stream| {
            ready.insert(*stream);
        });
    }

    fn heal(&mut self) {
        if let Some((epoch, next)) = self.state.missing() {
            let entries = self.log.read(next, next + 2);
            self.hear(&epoch, entries, 0);
            if self.is_left_behind() {
                self.drop_ring();
            }
        }
    }

    fn attach(&mut self, n: u8, share: u8) {
        let viewer = (n < USERS).then_some(n);
        let Some(joined) = self.log.admit(viewer) else { return };
        let (from, _) = self.begin(self.log.head() * Seq::from(share) / 255);
        let (id, cursor) = self.start(self.streams.len(), viewer, joined, from);
        self.ready.insert(self.streams.len());
        self.streams.push(Stream {
            id,
            user: viewer,
            cursor,
            joined,
            from,
            attached: vec![(0, self.log.head(), self.log.first)],
            resets: Vec::new(),
            refused: false,
            wanted: None,
            block: None,
            got: Vec::new(),
            known: Vec::new(),
            end: None,
        });
    }

    /// The ring was dropped under a stream: it looks again from where it stands.
    fn attach_again(&mut self, n: usize) {
        let stream = &self.streams[n];
        let (id, user, joined) = (stream.id, stream.user, stream.joined);
        let position = stream.cursor.position();
        self.state.unsubscribe(id);
        if self.log.admit(user) != Some(joined) {
            self.streams[n].refused = true;
            return;
        }
        let (position, reset) = self.begin(position);
        let (id, cursor) = self.start(n, user, joined, position);
        let stream = &mut self.streams[n];
        (stream.id, stream.cursor) = (id, cursor);
        if reset {
            stream.resets.push((stream.got.len(), position));
        }
        stream.attached.push((stream.got.len(), self.log.head(), self.log.first));
        self.ready.insert(n);
    }

    /// After which position a stream goes on, and whether it is told that others are gone.
    const fn begin(&self, position: Seq) -> (Seq, bool) {
        let gone = position > 0 && position + 1 < self.log.first;
        (if gone { self.log.first - 1 } else { position }, gone)
    }

    fn start(
        &mut self,
        n: usize,
        viewer: Option<u8>,
        joined: Seq,
        from: Seq,
    ) -> (SubscriptionId, Cursor) {
        let view = self.log.view(viewer);
        loop {
            let id = self.state.subscribe(n, viewer.map(user));
            match self.state.start(&view) {
                Started::Suspect => {
                    self.state.unsubscribe(id);
                    self.act(&Act::Head);
                    continue;
                }
                Started::Running { behind: false } => {}
                Started::Running { behind: true } => {
                    while self.state.missing().is_some_and(|(_, next)| next <= view.head) {
                        self.heal();
                    }
                }
            }
            return (id, Cursor::new(&view, viewer.map(user), joined, from));
        }
    }

    fn read(&mut self, n: usize) {
        if let Some(id) = self.streams[n].wanted.take() {
            self.streams[n].block = Some(Block::new(id, self.log.read(id.first(), id.last())));
            self.ready.insert(n);
        }
    }

    fn pull(&mut self, n: usize) {
        self.ready.remove(&n);
        let stream = &mut self.streams[n];
        if stream.end.is_some() || stream.refused {
            return;
        }
        let known = self.state.position().map_or(0, |(_, head)| head);
        let mut batch = Batch::new(BatchLimits { frames: self.batch, bytes: 10_000 }, 0);
        let block = stream.block.take();
        let pulled = self.state.pull(stream.id, &mut stream.cursor, block.as_ref(), &mut batch);
        stream.known.extend(batch.outs.iter().map(|_| known));
        stream.got.extend(batch.outs);
        match pulled {
            Pull::Idle => {}
            Pull::Block(id) => stream.wanted = Some(id),
            // A hole: the block was read before the log went on.
            Pull::More | Pull::Hole => {
                self.ready.insert(n);
            }
            Pull::End(end) => {
                stream.end = Some(end);
                self.state.unsubscribe(stream.id);
            }
            Pull::Stale => self.attach_again(n),
        }
    }

    /// Faults end: every stream reaches the head, though nobody but the node wakes it.
    fn settle(&mut self) {
        self.act(&Act::Head);
        while self.state.missing().is_some() {
            self.heal();
        }
        for _ in 0..100_000 {
            for n in 0..self.streams.len() {
                self.read(n);
            }
            let Some(n) = self.ready.first().copied() else { return };
            self.pull(n);
        }
        panic!("streams do not come to rest");
    }
}

/// Checks everything that a stream was given.
fn check(log: &Log, stream: &Stream) {
    let mut next = stream.from + 1;
    let mut caught_up = 0;
    for (at, (out, known)) in stream.got.iter().zip(&stream.known).enumerate() {
        for (_, position) in stream.resets.iter().filter(|(before, _)| *before == at) {
            assert!(*position >= next, "what is gone was not given");
            next = position + 1;
        }
        let attached = stream.attached.iter().rfind(|(before, ..)| *before <= at);
        let (_, head, left) = attached.expect("an attach before");
        match out {
            Out::Event(frame) => {
                let event = event(frame);
                assert_eq!(event.seq, next, "dense");
                assert!(event.seq <= *known, "nothing above what the node passed");
                assert!(event.seq >= *left, "nothing that was gone at the attach");
                let cleared = log.cleared.iter().rev().find(|(at, _)| at <= known);
                assert!(cleared.is_none_or(|(_, first)| event.seq >= *first), "cleared");
                check_event(log, stream, &event, *known);
                next += 1;
            }
            Out::Skipped { from, to } => {
                assert!(*from == next && from <= to, "dense");
                let end = stream.joined.max(*left);
                assert!(*to < end, "only what lies before the join, or is gone, is skipped");
                next = to + 1;
            }
            Out::CaughtUp(seq) => {
                assert_eq!(*seq, next - 1, "caught up where it stands");
                assert!(seq >= head, "caught up at the head of attach");
                caught_up += 1;
            }
        }
    }
    assert!(caught_up <= stream.attached.len(), "caught up once per attach");
    if stream.refused {
        return;
    }
    for (_, position) in stream.resets.iter().filter(|(before, _)| *before == stream.got.len()) {
        next = position + 1;
    }
    let removed = log
        .history
        .iter()
        .find(|(seq, user, joined)| Some(*user) == stream.user && *seq > stream.joined && !joined);
    let Some((removed, ..)) = removed else {
        assert_eq!(stream.end, log.closed.map(End::Deleted));
        assert_eq!(next, log.head() + 1, "the head is reached");
        assert!(caught_up >= 1, "caught up");
        return;
    };
    assert_eq!(stream.end, Some(End::Removed(*removed)));
    for (out, known) in stream.got.iter().zip(&stream.known) {
        if let Out::Event(frame) = out {
            assert!(
                known < removed || event(frame).seq == *removed,
                "once it is known, it is over"
            );
        }
    }
    assert!(next <= removed + 1, "nothing above the removal");
}

fn event(frame: &Frame) -> pb::Event {
    let decoded = pb::SubscribeResponse::decode(frame.bytes().as_ref()).expect("a frame");
    let Some(pb::subscribe_response::Frame::Event(room_event)) = decoded.frame else {
        panic!("an event")
    };
    room_event.event.expect("an event")
}

fn check_event(log: &Log, stream: &Stream, event: &pb::Event, known: Seq) {
    let seq = event.seq;
    let (target, text) = match &event.body {
        Some(PbBody::MessageSent(sent)) => (seq, sent.content.as_ref()),
        Some(PbBody::MessageEdited(edited)) => (edited.message_seq, edited.content.as_ref()),
        _ => return,
    };
    match (text, log.deleted.get(&target)) {
        (Some(content), deleted) => {
            assert_eq!(content.text, format!("secret of {target}"));
            assert!(deleted.is_none_or(|deleted| *deleted > known), "no content past its deletion");
        }
        (None, deleted) => {
            assert!(deleted.is_some() || target < log.first, "content is missing only when gone");
        }
    }
    let since_join = log.rules.iter().rev().find(|(at, _)| *at <= known);
    if stream.user.is_some()
        && seq < stream.joined
        && let Some((_, History::SinceJoin)) = since_join
    {
        panic!("{seq} lies outside the visible range")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_stream_gets_exactly_what_the_log_says(
        ring in 1_usize..20,
        batch in 1_usize..8,
        before in prop::collection::vec(act(), 0..150),
        acts in prop::collection::vec(act(), 1..300),
    ) {
        let mut world = World::new(ring, batch);
        // A log that exists, and members.
        for n in 0..USERS {
            world.act(&Act::Add(n));
        }
        for act in before.iter().chain(&acts) {
            world.act(act);
        }
        world.settle();
        for stream in &world.streams {
            check(&world.log, stream);
        }
    }
}
