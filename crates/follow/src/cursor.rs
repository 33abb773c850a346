//! A stream's place in one room.
//!
//! A cursor leaves no hole: every number after the place where it began is in exactly one
//! event or skipped range, in ascending order.

use parlance_log::{Blocked, EpochId, Hidden, History, Kind, View, has_expired};
use parlance_proto::frame::Frame;
use parlance_proto::message::v1 as pb;
use parlance_types::{LogId, Micros, Seq, UserId};

use super::entry::{Entry, Place};
use super::frames;

/// A stream's place in one room, and what it may see there.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    /// The epoch of the log that the position is in.
    pub epoch: EpochId,
    /// Whose stream it is; `None` when it acts for nobody and so sees everything.
    user: Option<UserId>,
    /// The event that made the user a member.
    joined: Seq,
    /// The first event that was stored, and that the user had not cleared for themselves,
    /// when the stream was attached.
    shown: Seq,
    /// Whose messages, edits and reactions the user does not see.
    blocked: Blocked,
    /// Which messages the user had hidden when the stream was attached.
    hidden: Hidden,
    position: Seq,
    /// The time of the event at the position, if it was put out.
    time: Option<Micros>,
    /// The head of the log when the stream was attached.
    head: Seq,
    caught_up: bool,
}

/// A piece of what a cursor puts out.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    Event(Frame),
    Skipped { from: Seq, to: Seq },
    CaughtUp(Seq),
}

/// Why a room is over for a stream, and the event that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Removed(Seq),
    Deleted(Seq),
}

impl Cursor {
    /// A cursor of a user who joined at `joined` that goes on after `position`, as the log
    /// is viewed now.
    pub(crate) fn new(view: &View, user: Option<UserId>, joined: Seq, position: Seq) -> Self {
        let (epoch, shown, head) = (view.epoch.clone(), view.shown(), view.head);
        let (blocked, hidden) = (view.blocked.clone(), view.hidden.clone());
        let (time, caught_up) = (None, false);
        Self { epoch, user, joined, shown, blocked, hidden, position, time, head, caught_up }
    }

    /// Leaves out what these users write from here on, and nobody else.
    pub(crate) fn block(&mut self, blocked: Blocked) {
        self.blocked = blocked;
    }

    /// Whether the user has blocked somebody.
    pub(crate) fn hides(&self, user: &UserId) -> bool {
        self.blocked.has(user.as_str())
    }

    /// Everything up to here was put out.
    pub(crate) const fn position(&self) -> Seq {
        self.position
    }

    /// The cursor as its client holds it.
    pub(crate) fn held(&self, log_id: LogId) -> pb::Cursor {
        frames::cursor(log_id, &self.epoch, self.position, self.time)
    }

    pub(crate) const fn joined(&self) -> Seq {
        self.joined
    }

    /// Leaves out what lies before the visible range.
    pub(crate) fn skip(&mut self, history: History) -> Option<Out> {
        let from = match (&self.user, history) {
            (Some(_), History::SinceJoin) => self.joined.max(self.shown),
            _ => self.shown,
        };
        (self.position.saturating_add(1) < from).then(|| {
            let skipped = Out::Skipped { from: self.position + 1, to: from - 1 };
            self.position = from - 1;
            self.time = None;
            skipped
        })
    }

    /// Says once that the head at attach time is reached.
    pub(crate) fn catch_up(&mut self) -> Option<Out> {
        let reached = !self.caught_up && self.position >= self.head;
        reached.then(|| {
            self.caught_up = true;
            Out::CaughtUp(self.position)
        })
    }

    /// Passes the next event of a log that begins at `first`. Says whether it is the room's
    /// last for this stream.
    pub(crate) fn pass(
        &mut self,
        place: &Place,
        first: Seq,
        entry: &Entry,
        now: Micros,
    ) -> (Out, Option<End>) {
        debug_assert_eq!(entry.seq, self.position + 1, "events are passed in order");
        self.position = entry.seq;
        self.time = Some(entry.time);
        let end = entry.effects.as_ref().and_then(|effects| {
            let lost = self.user.as_ref().is_some_and(|user| effects.lost.contains(user));
            if lost && entry.seq > self.joined {
                Some(End::Removed(entry.seq))
            } else {
                // A closing event below the join cannot be: a closed log takes nothing.
                effects.closed.then_some(End::Deleted(entry.seq))
            }
        });
        (self.out(place, first, entry, now), end)
    }

    /// What the stream gets of an event. An edit says no more than the message that it is of,
    /// if that is gone; and what has expired says nothing, whether it is deleted yet or not.
    fn out(&self, place: &Place, first: Seq, entry: &Entry, now: Micros) -> Out {
        let gone = |target| target < first.max(self.shown);
        if self.leaves_out(entry) {
            return Out::Skipped { from: entry.seq, to: entry.seq };
        }
        let of_gone = entry.kind == Kind::Edit && entry.target.is_some_and(gone);
        if !of_gone && !has_expired(entry.expires, now) {
            return Out::Event(entry.frame.clone());
        }
        let skipped = Out::Skipped { from: entry.seq, to: entry.seq };
        entry.tombstone(place).map_or(skipped, |blank| Out::Event(blank.frame))
    }

    /// Whether the user has blocked who wrote this, or hid it. Only who has blocked anybody, or
    /// hid anything, pays for it.
    fn leaves_out(&self, entry: &Entry) -> bool {
        let of_hidden = match entry.kind {
            Kind::Message => self.hidden.has(entry.seq),
            Kind::Edit => entry.target.is_some_and(|message| self.hidden.has(message)),
            _ => false,
        };
        let written =
            matches!(entry.kind, Kind::Message | Kind::Edit | Kind::Reaction | Kind::Unreaction);
        let is_blocked = |sender: UserId| self.hides(&sender);
        of_hidden || written && !self.blocked.is_empty() && entry.actor().is_some_and(is_blocked)
    }
}
