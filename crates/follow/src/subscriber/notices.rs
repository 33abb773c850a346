//! What a stream tells beside the logs: what passes in its rooms, what it finds when it
//! begins there, and ends that follow by themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parlance_log::Effects;
use parlance_types::{LogId, Seq};
use tokio::time::Instant;

use super::Subscriber;
use super::job::Done;
use crate::failure::Unavailable;
use crate::mailbox::Mail;
use crate::notice::Span;

/// Rooms whose present values are asked for at once.
const ROOMS: usize = 20;

/// Rooms that the stream has begun with, and of which it has not told what is there.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) due: Vec<LogId>,
    running: bool,
}

impl Subscriber {
    /// Tells what passes in the rooms, and what has ended by itself.
    pub(super) fn tell_notices(&mut self, mut mail: Mail) {
        for (log_id, epoch, frame) in mail.presents.drain(..) {
            let room = self.rooms.get(&log_id);
            if room.is_some_and(|room| room.attached.cursor.epoch == epoch) {
                self.chunk.put(frame);
            }
        }
        for (log_id, notice) in mail.notices() {
            let Some(room) = self.rooms.get(&log_id) else { continue };
            let attached = &room.attached;
            let (by, user) = (notice.by.as_ref(), self.follow.user.as_ref());
            let own = by.is_some_and(|by| !by.echo && Some(&by.user) == user);
            let blocked = by.is_some_and(|by| attached.cursor.hides(&by.user));
            // The client is told of another epoch first.
            let holds = notice.epoch.as_ref().is_none_or(|epoch| *epoch == attached.cursor.epoch);
            let begins = matches!(notice.span, Span::Until(..));
            let lost = begins && attached.subscription.has_lost(by);
            if !own && !blocked && holds && !lost && self.ongoing.hear(log_id, &notice) {
                self.hub.counters.noticed.fetch_add(1, Ordering::Relaxed);
                self.chunk.put(notice.frame);
            }
        }
        self.ongoing.ended(Instant::now()).for_each(|end| self.chunk.put(end));
    }

    /// What members say ends with their membership.
    pub(super) fn end_of_lost(&mut self, log_id: LogId, lost: Vec<(Arc<Effects>, Seq)>) {
        for (effects, at) in lost {
            self.ongoing.lost(log_id, &effects.lost, at).for_each(|end| self.chunk.put(end));
        }
    }

    /// Asks for what is there in the rooms that the stream has begun with.
    pub(super) fn ask_for_present(&mut self) {
        if self.present.running || self.present.due.is_empty() {
            return;
        }
        let rooms = self.present.due.len().min(ROOMS);
        let log_ids: Vec<_> = self.present.due.drain(..rooms).collect();
        let (hub, mailbox) = (Arc::clone(&self.hub), Arc::clone(&self.mailbox));
        self.present.running = true;
        self.jobs.spawn(async move {
            let told = hub.tell_present(&mailbox, &log_ids).await;
            Done::Present(log_ids, told)
        });
    }

    pub(super) fn told_present(&mut self, log_ids: Vec<LogId>, told: Result<(), Unavailable>) {
        self.present.running = false;
        if let Err(error) = told {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "could not read the present values of rooms; trying again");
            self.later(Done::TellPresent(log_ids));
        }
    }
}
