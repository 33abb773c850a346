//! One open stream. Whenever the transport wants a frame it pulls from the rooms that
//! have something, a chunk at a time: a stream has no task and no queue of its own, and
//! goes at the pace at which it is read.

mod chunk;
mod clock;
mod job;
mod joining;
mod notices;
mod pull;
mod rooms;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parlance_log::Person;
use parlance_proto::frame::Frame;
use parlance_rpc::Held;
use parlance_types::{LogId, Micros, RoomId, RoomKind, Seq, TenantId, UserId};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use self::chunk::Chunk;
use self::clock::{Clock, Due};
use self::job::Done;
use self::joining::Joining;
use self::notices::Present;
use super::attach::Start;
use super::blocks::{Block, BlockId};
use super::failure::Ended;
use super::hub::{Attached, Following, Inner};
use super::mailbox::Mailbox;
use super::ongoing::Ongoing;
use crate::frames;

/// A goodbye holds the cursors of so many rooms; where others stand, a heartbeat before it
/// tells.
const MANY: usize = 5_000;

/// A room to follow, and where from; `None`: as the request says for all.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub room_id: RoomId,
    pub start: Option<Start>,
}

/// The rooms that a stream is to follow, for whom and for how long.
#[derive(Debug)]
pub struct Follow {
    pub tenant_id: TenantId,
    /// `None`: for nobody, with every right.
    pub user: Option<UserId>,
    /// The service that asks, whoever it acts for.
    pub service: Option<String>,
    /// Each room once.
    pub rooms: Vec<Wanted>,
    /// Follow every room of the user; `rooms` only says where from.
    pub all_my_rooms: bool,
    /// Where rooms start for which nothing is said.
    pub start: Start,
    /// What `rooms` takes of the caller's memory here, until they are followed.
    pub held: Option<Held>,
    /// When the caller's token expires.
    pub expires: Micros,
    /// When it has to go elsewhere at the latest: its connection is old then.
    pub leaves: Option<Instant>,
    /// Cancelled when this node wants its streams to go elsewhere.
    pub draining: CancellationToken,
}

/// A room that is followed.
#[derive(Debug)]
struct Room {
    attached: Attached,
    /// The position that the client was last told of.
    reported: Seq,
    /// It is among the rooms to pull from.
    queued: bool,
    /// A block, or the time to ask for it again, is on its way.
    waits: bool,
    /// The block to go on with.
    block: Option<Arc<Block>>,
    /// How often in a row a block did not hold what it must.
    holes: usize,
}

/// Where the list of the user's rooms stands.
#[derive(Debug, Default)]
struct Listing {
    /// It may be out of date.
    due: bool,
    running: bool,
    /// It was read once.
    done: bool,
}

/// What is said of the user in every room.
#[derive(Debug, Default)]
struct Said {
    /// It may be out of date.
    due: bool,
    running: bool,
    /// As it was read last, once it was: rooms that are attached know as much.
    person: Option<Person>,
}

/// Blocks to read for rooms that are behind their ring.
#[derive(Debug, Default)]
struct Reading {
    /// Blocks whose turn has not come.
    waiting: VecDeque<(LogId, BlockId)>,
    running: usize,
}

/// A stream goes on, or ends.
#[derive(Debug)]
enum State {
    Open,
    /// It ends once what is in the chunk was taken; with what, if it fails.
    Ending(Option<Ended>),
}

#[derive(Debug)]
pub(super) struct Subscriber {
    hub: Arc<Inner>,
    follow: Follow,
    mailbox: Arc<Mailbox>,
    rooms: HashMap<LogId, Room>,
    /// The rooms to pull from.
    ready: VecDeque<LogId>,
    /// Empty memory, which changes places with what the mailbox holds.
    spare: VecDeque<LogId>,
    joining: Joining,
    reading: Reading,
    listing: Listing,
    said: Said,
    /// Hears of the user's list of rooms, and of what is said of them.
    following: Option<Following>,
    ongoing: Ongoing,
    present: Present,
    jobs: JoinSet<Done>,
    chunk: Chunk,
    state: State,
    clock: Clock,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Subscriber {
    pub(super) fn new(hub: Arc<Inner>, mailbox: Arc<Mailbox>, follow: Follow) -> Self {
        let mut subscriber = Self {
            mailbox,
            rooms: HashMap::new(),
            ready: VecDeque::new(),
            spare: VecDeque::new(),
            joining: Joining::new(follow.all_my_rooms),
            reading: Reading::default(),
            listing: Listing { due: follow.all_my_rooms, ..Listing::default() },
            said: Said::default(),
            following: None,
            ongoing: Ongoing::default(),
            present: Present::default(),
            jobs: JoinSet::new(),
            chunk: Chunk::new(hub.options.chunk),
            state: State::Open,
            clock: Clock::new(&hub.options, follow.expires, follow.leaves, &hub.clock),
            draining: Box::pin(follow.draining.clone().cancelled_owned()),
            hub,
            follow,
        };
        subscriber.begin();
        subscriber
    }

    /// The next frame, then how the stream ended.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, Ended>>> {
        loop {
            if let Some(frame) = self.chunk.take() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if let State::Ending(failure) = &mut self.state {
                return Poll::Ready(failure.take().map(Err));
            }
            ready!(self.poll_turn(context));
        }
    }

    /// Waits until there is a frame, or an end without one.
    pub(super) fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            if !self.chunk.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let State::Ending(failure) = &mut self.state {
                return Poll::Ready(failure.take().map_or(Ok(()), Err));
            }
            ready!(self.poll_turn(context));
        }
    }

    /// Fills the empty chunk by turns from every room that has something. Ready once
    /// there is a frame or an end, or another turn to take.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.is_expired() {
            self.end(Some(Ended::TokenExpired));
            return Poll::Ready(());
        }
        self.launch();
        let mail = self.mailbox.take(&mut self.spare, context);
        while let Some(log_id) = self.spare.pop_front() {
            self.queue(log_id);
        }
        self.listing.due |= mail.rooms_changed && self.follow.all_my_rooms;
        self.said.due |= mail.rooms_changed;
        while !self.chunk.is_full()
            && let Some(log_id) = self.ready.pop_front()
        {
            self.drain(log_id);
        }
        self.tell_notices(mail);
        self.launch();
        if self.joining.is_empty() && (self.listing.done || !self.follow.all_my_rooms) {
            self.follow.held = None;
        }
        if self.is_over() {
            let refused = self.joining.refusal();
            self.end(refused.map(Ended::Refused));
        } else if self.mailbox.is_given_up() {
            self.go_away();
        }
        let goes_on = self.is_ending() || self.poll_others(context);
        if goes_on || !self.chunk.is_empty() || !self.ready.is_empty() {
            return Poll::Ready(());
        }
        self.mailbox.rest();
        Poll::Pending
    }

    /// Looks for other things than mail: times, the node's end, jobs. Says if there was one.
    fn poll_others(&mut self, context: &mut Context<'_>) -> bool {
        if let Poll::Ready(due) = self.clock.poll(self.ongoing.next(), context) {
            match due {
                Due::Expiry => self.end(Some(Ended::TokenExpired)),
                Due::Move => self.go_away(),
                Due::Heartbeat => self.beat(),
                Due::Other => {}
            }
            return true;
        }
        if self.draining.as_mut().poll(context).is_ready() {
            self.go_away();
            return true;
        }
        if self.jobs.is_empty() {
            return false;
        }
        match self.jobs.poll_join_next(context) {
            Poll::Ready(Some(Ok(done))) => self.done(done),
            // Jobs are not cancelled, so one that ended otherwise has panicked.
            Poll::Ready(Some(Err(_))) => self.go_away(),
            Poll::Ready(None) | Poll::Pending => return false,
        }
        true
    }

    /// Says where rooms stand that moved since the client was last told.
    fn beat(&mut self) {
        let moved = self.rooms.values_mut().filter_map(|room| {
            let position = room.attached.cursor.position();
            let moved = std::mem::replace(&mut room.reported, position) < position;
            moved.then(|| (room.id().clone(), position))
        });
        let heartbeats = frames::heartbeats(moved);
        // Memory that a burst took is given back when there is time.
        self.chunk.shrink();
        for heartbeat in heartbeats {
            self.chunk.put(heartbeat);
        }
        self.clock.has_beaten(&self.hub.options);
    }

    /// Ends the stream with where every room stands.
    fn go_away(&mut self) {
        if self.rooms.len() > MANY {
            self.beat();
        }
        let followed = self
            .rooms
            .values()
            .map(|room| (room.id().clone(), Some(room.attached.cursor.held(room.log_id()))));
        // Given before the list of rooms was known, and not used yet.
        let given = self.follow.rooms.iter().filter_map(|wanted| {
            Some((wanted.room_id.clone(), Some(wanted.start.as_ref()?.cursor()?)))
        });
        let cursors = followed.chain(self.joining.cursors()).chain(given);
        self.chunk.put(frames::go_away(self.hub.go_away_after(), cursors));
        self.end(None);
    }

    /// Ends the stream after what was put out so far.
    fn end(&mut self, failure: Option<Ended>) {
        self.state = State::Ending(failure);
    }

    fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending(_))
    }

    /// Says if no room is left, and none can come.
    fn is_over(&self) -> bool {
        !self.follow.all_my_rooms && self.rooms.is_empty() && self.joining.is_empty()
    }
}

impl Room {
    fn id(&self) -> &RoomId {
        &self.attached.subscription.log.place.room_id
    }

    /// Leaves out from here on what those write whom the user has blocked: in a direct room,
    /// those who are not refused there.
    fn block(&mut self, person: &Person) {
        let direct = self.attached.kind == RoomKind::Direct;
        let blocked = if direct { &person.hidden } else { &person.blocked };
        self.attached.cursor.block(blocked.clone());
    }

    fn log_id(&self) -> LogId {
        self.attached.subscription.log.place.log_id
    }
}
