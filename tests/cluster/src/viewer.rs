//! A subscriber that keeps its cursors and goes on wherever there is a replica.

use std::collections::BTreeMap;
use std::time::Duration;

use parlance_proto::message::v1::subscribe_response::Frame as Wire;
use parlance_proto::message::v1::{Cursor, RoomCursor, SubscribeRequest, SubscribeResponse};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Client;
use crate::client::is_final;
use crate::history::{Frame, Said, View};

/// How long a stream may be silent before it is given up; heartbeats come sooner.
const SILENCE: Duration = Duration::from_secs(35);

/// A user who follows rooms, until it is stopped.
#[derive(Debug)]
pub struct Viewer {
    pub user: String,
    seen: watch::Receiver<BTreeMap<String, Seen>>,
    stop: CancellationToken,
    task: JoinHandle<Follow>,
}

/// How far a room has been followed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub cursor: Cursor,
    pub closed: bool,
}

#[derive(Debug)]
struct Follow {
    client: Client,
    user: String,
    rooms: BTreeMap<String, Seen>,
    frames: BTreeMap<String, Vec<Frame>>,
    told: watch::Sender<BTreeMap<String, Seen>>,
    stop: CancellationToken,
    replica: usize,
    /// Whether streams are dropped at random.
    restless: bool,
    /// Whether every room of the user is followed, as memberships come and go.
    everywhere: bool,
    streams: usize,
}

impl Viewer {
    /// Follows rooms from their beginnings, first on `replica`.
    pub fn start(
        client: Client,
        user: &str,
        rooms: &[String],
        replica: usize,
        restless: bool,
    ) -> Self {
        let rooms = rooms.iter().map(|room| (room.clone(), Seen::default())).collect();
        Self::follow(Follow::new(client, user, rooms, replica, restless))
    }

    /// Follows all rooms of the user on one stream, those that are to come too.
    pub fn everywhere(client: Client, user: &str, replica: usize) -> Self {
        let follow = Follow::new(client, user, BTreeMap::new(), replica, false);
        Self::follow(Follow { everywhere: true, ..follow })
    }

    fn follow(follow: Follow) -> Self {
        let (user, seen, stop) =
            (follow.user.clone(), follow.told.subscribe(), follow.stop.clone());
        Self { user, seen, stop, task: tokio::spawn(follow.run()) }
    }

    /// Waits until a stream is open.
    pub async fn is_on(&self, within: Duration) -> bool {
        let mut seen = self.seen.clone();
        let on =
            |seen: &BTreeMap<String, Seen>| seen.values().any(|room| !room.cursor.epoch.is_empty());
        matches!(timeout(within, seen.wait_for(on)).await, Ok(Ok(_)))
    }

    /// Waits until a room was followed up to `seq`, or closed; false if it was not in time.
    pub async fn reaches(&self, room: &str, seq: i64, within: Duration) -> bool {
        let mut seen = self.seen.clone();
        let there = |seen: &BTreeMap<String, Seen>| {
            seen.get(room).is_some_and(|room| room.closed || room.cursor.seq >= seq)
        };
        matches!(timeout(within, seen.wait_for(there)).await, Ok(Ok(_)))
    }

    /// Waits until a room is closed; false if it was not in time.
    pub async fn is_closed(&self, room: &str, within: Duration) -> bool {
        self.reaches(room, i64::MAX, within).await
    }

    /// Stops; what was seen of each room, and over how many streams.
    pub async fn stop(self) -> (Vec<View>, usize) {
        self.stop.cancel();
        let follow = self.task.await.expect("a viewer");
        let Follow { user, frames, streams, .. } = follow;
        let view = |(room, frames)| View { user: user.clone(), room, frames };
        (frames.into_iter().map(view).collect(), streams)
    }
}

impl Follow {
    fn new(
        client: Client,
        user: &str,
        rooms: BTreeMap<String, Seen>,
        replica: usize,
        restless: bool,
    ) -> Self {
        Self {
            client,
            user: user.to_owned(),
            told: watch::Sender::new(rooms.clone()),
            rooms,
            frames: BTreeMap::new(),
            stop: CancellationToken::new(),
            replica,
            restless,
            everywhere: false,
            streams: 0,
        }
    }

    async fn run(mut self) -> Self {
        let stop = self.stop.clone();
        while self.everywhere || !self.rooms.values().all(|room| room.closed) {
            let went_on = stop.run_until_cancelled(self.stream()).await;
            match went_on {
                None => break,
                Some(true) => {}
                Some(false) => sleep(Duration::from_millis(50)).await,
            }
            self.replica += 1;
        }
        self
    }

    /// One stream, to its end; whether it brought anything.
    async fn stream(&mut self) -> bool {
        let open = self.rooms.iter().filter(|(_, seen)| !seen.closed);
        let cursor = |(room, seen): (&String, &Seen)| RoomCursor {
            room_id: room.clone(),
            cursor: Some(seen.cursor.clone()),
        };
        let request = SubscribeRequest {
            rooms: open.map(cursor).collect(),
            all_my_rooms: self.everywhere,
            ..SubscribeRequest::default()
        };
        let mut stream = match self.client.subscribe(self.replica, request).await {
            Ok(stream) => stream,
            Err(status) => {
                // Every room was refused: the viewer is a member of none any more.
                if is_final(&status) {
                    self.rooms.values_mut().for_each(|room| room.closed = true);
                    self.told.send_replace(self.rooms.clone());
                }
                return false;
            }
        };
        self.streams += 1;
        let mut left = if self.restless { rand::rng().random_range(20..400) } else { usize::MAX };
        while let Ok(Ok(Some(response))) = timeout(SILENCE, stream.message()).await {
            if !self.frame(response) || left == 0 {
                break;
            }
            left -= 1;
        }
        true
    }

    /// Handles a frame; false after the last one of the stream.
    fn frame(&mut self, response: SubscribeResponse) -> bool {
        let Some(frame) = response.frame else { return true };
        match frame {
            Wire::Attached(attached) => {
                let room = self.rooms.entry(attached.room_id.clone()).or_default();
                room.cursor.epoch = attached.epoch;
                room.cursor.move_to(attached.resume_from, None);
                let (resume_from, head) = (attached.resume_from, attached.head);
                self.record(attached.room_id, Frame::Attached { resume_from, head });
            }
            Wire::Event(frame) => {
                let event = frame.event.unwrap_or_default();
                let seq = event.seq;
                self.moved(&frame.room_id, seq, event.time);
                self.record(frame.room_id, Frame::Event { seq, said: Said::of(event) });
            }
            Wire::Skipped(skipped) => {
                let (from, to) = (skipped.from_seq, skipped.to_seq);
                self.moved(&skipped.room_id, to, None);
                self.record(skipped.room_id, Frame::Skipped { from, to });
            }
            Wire::CaughtUp(up) => self.record(up.room_id, Frame::CaughtUp { seq: up.seq }),
            Wire::Heartbeat(heartbeat) => {
                for head in heartbeat.heads {
                    self.record(head.room_id, Frame::Heartbeat { seq: head.seq });
                }
            }
            Wire::Reset(reset) => {
                let room = self.rooms.entry(reset.room_id.clone()).or_default();
                room.cursor.epoch = reset.epoch;
                room.cursor.move_to(reset.resume_from, None);
                let (keep_through, resume_from) = (reset.keep_through, reset.resume_from);
                self.record(reset.room_id, Frame::Reset { keep_through, resume_from });
            }
            Wire::Closed(closed) => {
                self.rooms.entry(closed.room_id.clone()).or_default().closed = true;
                self.record(closed.room_id, Frame::Closed { seq: closed.seq });
            }
            Wire::GoAway(_) => return false,
            Wire::Notice(_) => {}
        }
        self.told.send_replace(self.rooms.clone());
        true
    }

    fn moved(&mut self, room: &str, seq: i64, time: Option<prost_types::Timestamp>) {
        self.rooms.entry(room.to_owned()).or_default().cursor.move_to(seq, time);
    }

    fn record(&mut self, room: String, frame: Frame) {
        self.frames.entry(room).or_default().push(frame);
    }
}
