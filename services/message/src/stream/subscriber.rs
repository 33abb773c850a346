//! One open stream. Whenever the transport wants a frame it pulls from the rooms that
//! have something, a chunk at a time: a stream has no task and no queue of its own, and
//! goes at the pace at which it is read.

mod pull;
mod rooms;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parlance_proto::frame::Frame;
use parlance_types::{LogId, RoomId, Seq, TenantId, UserId};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use self::rooms::{Done, Joining};
use super::attach::{Refused, Start};
use super::blocks::{Block, BlockId};
use super::hub::{Attached, Following, Inner};
use super::mailbox::{Mailbox, Receipt};
use super::outlet::{Ended, Frames};
use super::typists::Typists;
use super::{Hub, TooManyStreams, Unavailable};
use crate::codec::frames;

/// A room to follow, and where from; `None`: as the request says for all.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub room_id: RoomId,
    pub start: Option<Start>,
}

/// What a stream is to follow.
#[derive(Clone, Debug)]
pub struct Follow {
    pub tenant_id: TenantId,
    /// `None`: for nobody, with every right.
    pub user: Option<UserId>,
    /// Each room once.
    pub rooms: Vec<Wanted>,
    /// Follow every room of the user; `rooms` only says where from.
    pub all_my_rooms: bool,
    /// Where rooms start for which nothing is said.
    pub start: Start,
    /// How long the caller's token holds.
    pub expires_in: Duration,
    /// Cancelled when this node wants its streams to go elsewhere.
    pub draining: CancellationToken,
}

/// A room that is followed.
#[derive(Debug)]
struct Room {
    attached: Attached,
    /// The position that the client was last told of.
    reported: Seq,
    /// Whether it is among the rooms to pull from.
    queued: bool,
    /// Whether a block, or the time to ask for it again, is on its way.
    waits: bool,
    /// The block to go on with.
    block: Option<Arc<Block>>,
    /// How often in a row a block did not hold what it must.
    holes: usize,
}

/// Where the list of the user's rooms stands.
#[derive(Debug, Default)]
struct Listing {
    /// Whether it may be out of date.
    due: bool,
    running: bool,
    /// Whether it was read once.
    done: bool,
}

#[derive(Debug)]
pub(super) struct Subscriber {
    hub: Arc<Inner>,
    follow: Follow,
    /// Hears of the user's list of rooms.
    following: Option<Following>,
    mailbox: Arc<Mailbox>,
    rooms: HashMap<LogId, Room>,
    /// Rooms on their way to being followed.
    joining: BTreeMap<RoomId, Joining>,
    /// Those of them whose turn has not come.
    waiting: VecDeque<RoomId>,
    attaching: usize,
    /// Blocks to read whose turn has not come.
    unread: VecDeque<(LogId, BlockId)>,
    reading: usize,
    jobs: JoinSet<Done>,
    listing: Listing,
    /// Whether the client was told anything; until then a failure fails the call.
    begun: bool,
    /// Named rooms that were refused before the first was not.
    refused: BTreeMap<usize, (RoomId, Refused)>,
    /// Rooms that could not be attached before the first was, and why one of them.
    failed: Option<(Vec<RoomId>, Unavailable)>,
    /// Rooms to pull from.
    ready: VecDeque<LogId>,
    /// The place of those that the mailbox holds.
    heard: VecDeque<LogId>,
    typists: Typists,
    /// What the transport takes next.
    chunk: VecDeque<Frame>,
    chunk_bytes: usize,
    /// Whether the stream ends once what is in the chunk was taken; and why, if it fails.
    ended: bool,
    failure: Option<Ended>,
    heartbeat: Instant,
    life: Instant,
    expires: Instant,
    /// Goes off at the first of the times at which there is something to do.
    alarm: Pin<Box<Sleep>>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Hub {
    /// Opens a stream. It ends when its reader is dropped, and counts as open until then.
    pub fn follow(&self, follow: Follow) -> Result<Frames, TooManyStreams> {
        let hub = Arc::clone(&self.0);
        let mailbox = Arc::default();
        let open = hub.open_stream(&follow.tenant_id, follow.user.as_ref(), &mailbox)?;
        let now = Instant::now();
        let heartbeat = now + rand::random_range(hub.options.heartbeat.clone());
        let mut subscriber = Subscriber {
            following: None,
            mailbox,
            rooms: HashMap::new(),
            joining: BTreeMap::new(),
            waiting: VecDeque::new(),
            attaching: 0,
            unread: VecDeque::new(),
            reading: 0,
            jobs: JoinSet::new(),
            listing: Listing { due: follow.all_my_rooms, ..Listing::default() },
            begun: follow.all_my_rooms,
            refused: BTreeMap::new(),
            failed: None,
            ready: VecDeque::new(),
            heard: VecDeque::new(),
            typists: Typists::default(),
            chunk: VecDeque::new(),
            chunk_bytes: 0,
            ended: false,
            failure: None,
            heartbeat,
            life: now + rand::random_range(hub.options.life.clone()),
            expires: now + follow.expires_in,
            alarm: Box::pin(sleep_until(heartbeat)),
            draining: Box::pin(follow.draining.clone().cancelled_owned()),
            hub,
            follow,
        };
        subscriber.begin();
        Ok(Frames::new(subscriber, open))
    }
}

impl Subscriber {
    /// The next frame, then how the stream ended.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, Ended>>> {
        loop {
            if let Some(frame) = self.chunk.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.ended {
                return Poll::Ready(self.failure.take().map(Err));
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
            if self.ended {
                return Poll::Ready(self.failure.take().map_or(Ok(()), Err));
            }
            ready!(self.poll_turn(context));
        }
    }

    /// Fills the empty chunk by turns from every room that has something. Ready once
    /// there is a frame or an end, or another turn to take.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.chunk_bytes = 0;
        if Instant::now() >= self.expires {
            self.end(Some(Ended::TokenExpired));
            return Poll::Ready(());
        }
        self.launch();
        let mail = self.mailbox.take(&mut self.heard, context);
        while let Some(log_id) = self.heard.pop_front() {
            self.queue(log_id);
        }
        self.listing.due |= mail.rooms_changed;
        while !self.chunk_is_full()
            && let Some(log_id) = self.ready.pop_front()
        {
            self.drain(log_id);
        }
        for ((log_id, user_id), Receipt { read, delivered, .. }) in mail.receipts {
            if let Some(room) = self.rooms.get(&log_id) {
                let room_id = &room.attached.subscription.log.place.room_id;
                let receipt = frames::receipt(room_id, &user_id, read, delivered);
                self.put(receipt);
            }
        }
        self.tell_typing(mail.typing);
        self.launch();
        if self.is_over() {
            self.over();
        } else if self.mailbox.is_given_up() {
            self.go_away();
        }
        let on = self.ended || self.poll_others(context);
        if on || !self.chunk.is_empty() || !self.ready.is_empty() {
            return Poll::Ready(());
        }
        self.mailbox.rest();
        Poll::Pending
    }

    /// What happens to a stream beside its mail. Says whether anything did.
    fn poll_others(&mut self, context: &mut Context<'_>) -> bool {
        let times =
            [Some(self.expires), Some(self.life), Some(self.heartbeat), self.typists.next()];
        let due = times.into_iter().flatten().min().unwrap_or(self.life);
        if self.alarm.deadline() != due {
            self.alarm.as_mut().reset(due);
        }
        if self.alarm.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if now >= self.expires {
                self.end(Some(Ended::TokenExpired));
            } else if now >= self.life {
                self.go_away();
            } else if now >= self.heartbeat {
                self.beat();
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

    /// Tells who began to type and who stopped, by saying so or by going quiet.
    fn tell_typing(&mut self, heard: BTreeMap<(LogId, UserId), Option<Instant>>) {
        let mut told = Vec::new();
        for ((log_id, user_id), until) in heard {
            let own = self.follow.user.as_ref() == Some(&user_id);
            if !own
                && self.rooms.contains_key(&log_id)
                && self.typists.hear(log_id, user_id.clone(), until)
            {
                told.push((log_id, user_id, until.is_some()));
            }
        }
        let stopped = self.typists.stopped(Instant::now());
        told.extend(stopped.into_iter().map(|(log_id, user_id)| (log_id, user_id, false)));
        for (log_id, user_id, typing) in told {
            if let Some(room) = self.rooms.get(&log_id) {
                let room_id = &room.attached.subscription.log.place.room_id;
                let notice = frames::typing(room_id, &user_id, typing);
                self.put(notice);
            }
        }
    }

    fn put(&mut self, frame: Frame) {
        self.chunk_bytes += frame.bytes().len();
        self.chunk.push_back(frame);
    }

    fn chunk_is_full(&self) -> bool {
        let limits = self.hub.options.chunk;
        self.chunk.len() >= limits.frames || self.chunk_bytes >= limits.bytes
    }

    /// Says where rooms stand that moved since the client was last told.
    fn beat(&mut self) {
        let moved = self.rooms.values_mut().filter_map(|room| {
            let position = room.attached.cursor.position();
            (position > room.reported).then(|| {
                room.reported = position;
                (&room.attached.subscription.log.place.room_id, position)
            })
        });
        let heartbeat = frames::heartbeat(moved);
        // What a burst took is given back when there is time.
        self.chunk.shrink_to_fit();
        self.put(heartbeat);
        self.heartbeat = Instant::now() + rand::random_range(self.hub.options.heartbeat.clone());
    }

    /// Ends the stream with where every room stands.
    fn go_away(&mut self) {
        let followed = self.rooms.values().map(|room| {
            let place = &room.attached.subscription.log.place;
            let cursor = &room.attached.cursor;
            let epoch = frames::epoch_token(place.log_id, &cursor.epoch);
            (place.room_id.clone(), Some((epoch, cursor.position())))
        });
        let joining =
            self.joining.iter().map(|(room_id, joining)| (room_id.clone(), joining.cursor.clone()));
        // Given before the list of rooms was known, and not used yet.
        let given = self.follow.rooms.iter().filter_map(|wanted| {
            Some((wanted.room_id.clone(), Some(wanted.start.as_ref()?.cursor()?)))
        });
        let after = self.hub.go_away_after();
        let go_away = frames::go_away(after, followed.chain(joining).chain(given));
        self.put(go_away);
        self.end(None);
    }

    /// Ends the stream after what was put out so far.
    fn end(&mut self, failure: Option<Ended>) {
        (self.ended, self.failure) = (true, failure);
    }
}
