//! Pulls what rooms have into the chunk. Blocks that are needed for it are read by jobs,
//! so that a room that waits for the store holds up neither the others nor the stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parlance_types::LogId;

use super::Subscriber;
use super::job::Done;
use crate::batch::Batch;
use crate::blocks::{Block, BlockId};
use crate::cursor::{End, Out};
use crate::failure::Unavailable;
use crate::frames::{self, ClosedReason};
use crate::log::Pull;
use crate::measure;

/// How often a block may lack what it must hold before the store is given time.
const HOLES: usize = 2;

impl Subscriber {
    /// Makes a room one to pull from.
    pub(super) fn queue(&mut self, log_id: LogId) {
        if let Some(room) = self.rooms.get_mut(&log_id)
            && !std::mem::replace(&mut room.queued, true)
        {
            self.ready.push_back(log_id);
        }
    }

    /// Pulls what is ready in a room into the chunk, as far as it has room.
    pub(super) fn drain(&mut self, log_id: LogId) {
        let mut batch = Batch::new(self.chunk.space(), self.hub.clock.now());
        let Some(room) = self.rooms.get_mut(&log_id) else { return };
        room.queued = false;
        let block = room.block.take();
        let subscription = &room.attached.subscription;
        let pulled = subscription.pull(&mut room.attached.cursor, block.as_deref(), &mut batch);
        if !batch.outs.is_empty() {
            room.holes = 0;
        }
        if pulled == Pull::More {
            room.block = block;
        }
        let place = Arc::clone(&subscription.log.place);
        let mut events = 0;
        for out in batch.outs {
            events += u64::from(matches!(out, Out::Event(_)));
            self.chunk.put(match out {
                Out::Event(frame) => frame,
                Out::Skipped { from, to } => frames::skipped(&place.room_id, from, to),
                Out::CaughtUp(seq) => frames::caught_up(&place.room_id, seq),
            });
        }
        self.hub.counters.delivered.fetch_add(events, Ordering::Relaxed);
        if events > 0 {
            measure::delivered(batch.behind);
        }
        self.end_of_lost(log_id, batch.lost);
        match pulled {
            Pull::Idle => {}
            Pull::More => self.queue(log_id),
            Pull::Block(id) => self.want(log_id, id),
            Pull::Hole => self.hole(log_id),
            Pull::Stale => self.attach_again(log_id),
            Pull::End(end) => {
                let (seq, reason) = match end {
                    End::Removed(seq) => (seq, ClosedReason::Removed),
                    End::Deleted(seq) => (seq, ClosedReason::RoomDeleted),
                };
                self.chunk.put(frames::closed(&place.room_id, seq, reason));
                self.rooms.remove(&log_id);
                self.ongoing.leave(log_id).for_each(drop);
                // The user may be a member again, or the room id may have a new life.
                self.listing.due |= self.follow.all_my_rooms;
            }
        }
    }

    /// Starts reading the blocks whose turn has come.
    pub(super) fn read(&mut self) {
        while self.reading.running < self.hub.options.attaching
            && let Some((log_id, id)) = self.reading.waiting.pop_front()
        {
            let Some(room) = self.rooms.get(&log_id) else { continue };
            let (hub, log) = (Arc::clone(&self.hub), Arc::clone(&room.attached.subscription.log));
            self.reading.running += 1;
            self.jobs.spawn(async move { Done::Block(log_id, hub.block(&log, id).await) });
        }
    }

    /// Goes on with a block; one that is not asked for any more does no harm.
    pub(super) fn has_read(&mut self, log_id: LogId, read: Result<Arc<Block>, Unavailable>) {
        self.reading.running -= 1;
        match read {
            Ok(block) => {
                if let Some(room) = self.rooms.get_mut(&log_id) {
                    (room.waits, room.block) = (false, Some(block));
                }
                self.queue(log_id);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%log_id, error, "a stream waits for the store");
                self.retry_later(log_id);
            }
        }
    }

    /// The time to ask the store again has come.
    pub(super) fn retry(&mut self, log_id: LogId) {
        if let Some(room) = self.rooms.get_mut(&log_id) {
            room.waits = false;
        }
        self.queue(log_id);
    }

    fn want(&mut self, log_id: LogId, id: BlockId) {
        if let Some(room) = self.rooms.get_mut(&log_id)
            && !std::mem::replace(&mut room.waits, true)
        {
            self.reading.waiting.push_back((log_id, id));
        }
    }

    /// The read may have begun before the event was stored: once more, then later. Or what
    /// comes next is gone, as the head tells.
    fn hole(&mut self, log_id: LogId) {
        let Some(room) = self.rooms.get_mut(&log_id) else { return };
        room.holes += 1;
        if room.holes <= HOLES {
            self.queue(log_id);
        } else {
            self.hub.suspect();
            self.retry_later(log_id);
        }
    }

    fn retry_later(&mut self, log_id: LogId) {
        if let Some(room) = self.rooms.get_mut(&log_id) {
            room.waits = true;
            self.later(Done::Pull(log_id));
        }
    }
}
