//! One open stream: a task that pulls from the rooms that have something and
//! hands chunks to the transport at the pace at which they are read.

mod pull;
mod rooms;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parlance_proto::frame::Frame;
use parlance_types::{LogId, RoomId, Seq, TenantId, UserId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::rooms::{Done, Joining};
use super::attach::{Refused, Start};
use super::blocks::{Block, BlockId};
use super::hub::{Attached, Following, Inner, count};
use super::mailbox::{Mailbox, Receipt};
use super::outlet::{Ended, Frames, Last, Outlet, outlet};
use super::typists::Typists;
use super::{Hub, TooManyStreams, Unavailable};
use crate::codec::frames;

/// Chunks between a stream's task and the transport.
const CHUNKS: usize = 2;

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
struct Subscriber {
    hub: Arc<Inner>,
    follow: Follow,
    /// Hears of the user's list of rooms.
    following: Option<Following>,
    mailbox: Arc<Mailbox>,
    outlet: Outlet,
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
    typists: Typists,
    chunk: Vec<Frame>,
    chunk_bytes: usize,
    /// Whether its reader did not read for too long.
    stalled: bool,
    heartbeat: Instant,
    life: Instant,
    expires: Instant,
}

impl Hub {
    /// Opens a stream. It ends when its reader is dropped, and counts as open until then.
    pub fn follow(&self, follow: Follow) -> Result<Frames, TooManyStreams> {
        let hub = Arc::clone(&self.0);
        let open = hub.open_stream(&follow.tenant_id, follow.user.as_ref())?;
        let (outlet, frames) = outlet(CHUNKS, open);
        let now = Instant::now();
        let mut subscriber = Subscriber {
            following: None,
            mailbox: Arc::default(),
            outlet,
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
            typists: Typists::default(),
            chunk: Vec::new(),
            chunk_bytes: 0,
            stalled: false,
            heartbeat: now + rand::random_range(hub.options.heartbeat.clone()),
            life: now + rand::random_range(hub.options.life.clone()),
            expires: now + follow.expires_in,
            hub,
            follow,
        };
        tokio::spawn(async move {
            let last = subscriber.run().await;
            let (outlet, patience, instead) = subscriber.end(&last);
            outlet.end(last, patience, instead).await;
        });
        Ok(frames)
    }
}

impl Subscriber {
    async fn run(&mut self) -> Last {
        self.begin();
        loop {
            if let Err(last) = self.turn().await {
                return last;
            }
        }
    }

    /// Lets go of everything but what the reader is still to find: how long that is kept,
    /// and what comes instead of it then.
    fn end(self, last: &Last) -> (Outlet, Duration, Vec<Frame>) {
        let patience = if self.stalled { Duration::ZERO } else { self.hub.options.stall };
        // Without cursors: what would come before them is let go.
        let go_away = || frames::go_away(self.hub.go_away_after(), std::iter::empty());
        let instead = last.ended.is_none().then(go_away).into_iter().collect();
        (self.outlet, patience, instead)
    }

    /// Gives every room that has something one chunk's worth, then waits for more.
    async fn turn(&mut self) -> Result<(), Last> {
        self.launch();
        let mail = self.mailbox.take();
        for log_id in mail.ready {
            self.queue(log_id);
        }
        self.listing.due |= mail.rooms_changed;
        for _ in 0..self.ready.len() {
            if let Some(log_id) = self.ready.pop_front() {
                self.drain(log_id);
            }
            if self.chunk_is_full() {
                self.flush().await?;
            }
        }
        for ((log_id, user_id), Receipt { read, delivered, .. }) in mail.receipts {
            if let Some(room) = self.rooms.get(&log_id) {
                let room_id = &room.attached.subscription.log.place.room_id;
                let receipt = frames::receipt(room_id, &user_id, read, delivered);
                self.put(receipt);
            }
        }
        self.tell_typing(mail.typing);
        self.flush().await?;
        self.launch();
        if self.is_over() {
            return Err(self.over());
        }

        let busy = !self.ready.is_empty();
        let stops = self.typists.next();
        tokio::select! {
            biased;
            () = self.outlet.gone.cancelled() => Err(Last::default()),
            () = sleep_until(self.expires) => Err(self.expired()),
            () = self.follow.draining.cancelled() => Err(self.go_away()),
            () = sleep_until(self.life) => Err(self.go_away()),
            () = sleep_until(self.heartbeat) => {
                self.beat();
                Ok(())
            }
            Some(done) = self.jobs.join_next() => match done {
                Ok(done) => self.done(done),
                // Jobs are not cancelled, so one that ended otherwise has panicked.
                Err(_) => Err(self.go_away()),
            },
            () = self.mailbox.wait() => Ok(()),
            () = sleep_until(stops.unwrap_or(self.life)), if stops.is_some() => Ok(()),
            () = std::future::ready(()), if busy => Ok(()),
        }
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
        self.chunk.push(frame);
    }

    fn chunk_is_full(&self) -> bool {
        let limits = self.hub.options.chunk;
        self.chunk.len() >= limits.frames || self.chunk_bytes >= limits.bytes
    }

    /// Hands the chunk to the transport, waiting for the reader but not for ever.
    async fn flush(&mut self) -> Result<(), Last> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let stall = Instant::now() + self.hub.options.stall;
        let went_away = tokio::select! {
            biased;
            place = self.outlet.chunks.reserve() => {
                let Ok(place) = place else { return Err(Last::default()) };
                place.send(std::mem::take(&mut self.chunk));
                self.chunk_bytes = 0;
                return Ok(());
            }
            () = sleep_until(self.expires) => false,
            () = self.follow.draining.cancelled() => true,
            () = sleep_until(self.life) => true,
            () = sleep_until(stall) => {
                count(&self.hub.counters.stalled);
                self.stalled = true;
                return Err(Last::default());
            }
        };
        Err(if went_away { self.go_away() } else { self.expired() })
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
        self.put(heartbeat);
        self.heartbeat = Instant::now() + rand::random_range(self.hub.options.heartbeat.clone());
    }

    /// The chunk, then where every room stands.
    fn go_away(&mut self) -> Last {
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
        Last { frames: std::mem::take(&mut self.chunk), ended: None }
    }

    fn expired(&mut self) -> Last {
        Last { frames: std::mem::take(&mut self.chunk), ended: Some(Ended::TokenExpired) }
    }
}
