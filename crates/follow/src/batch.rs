//! The part of a room that a stream puts out at once.

use std::sync::Arc;

use parlance_log::Effects;
use parlance_types::{Micros, Seq};

use super::cursor::{Cursor, End, Out};
use super::entry::{Entry, Place};

/// How much a batch, and so a chunk of a stream, holds.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub frames: usize,
    /// Bytes of events; one event may exceed it.
    pub bytes: usize,
}

/// The next things for a stream in one room, bounded.
#[derive(Debug)]
pub(crate) struct Batch {
    pub outs: Vec<Out>,
    /// The events in it that took somebody's access.
    pub lost: Vec<(Arc<Effects>, Seq)>,
    bytes: usize,
    limits: BatchLimits,
    /// The time: what has expired by then loses its content.
    now: Micros,
}

impl Batch {
    pub(crate) const fn new(limits: BatchLimits, now: Micros) -> Self {
        Self { outs: Vec::new(), lost: Vec::new(), bytes: 0, limits, now }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.outs.len() >= self.limits.frames || self.bytes >= self.limits.bytes
    }

    /// Passes events of a log that begins at `first` to a cursor, up to its head, while the
    /// batch has room.
    pub(crate) fn fill<'a>(
        &mut self,
        cursor: &mut Cursor,
        place: &Place,
        (first, head): (Seq, Seq),
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Option<End> {
        for entry in entries.take_while(|entry| entry.seq <= head) {
            if self.is_full() {
                return None;
            }
            let (out, end) = cursor.pass(place, first, entry, self.now);
            self.note(entry);
            self.extend([out]);
            self.extend(cursor.catch_up());
            if end.is_some() {
                return end;
            }
        }
        None
    }

    /// Notes what an event that is put in means for others.
    pub(crate) fn note(&mut self, entry: &Entry) {
        let effects = entry.effects.as_ref().filter(|effects| !effects.lost.is_empty());
        self.lost.extend(effects.map(|effects| (Arc::clone(effects), entry.seq)));
    }

    pub(crate) fn extend(&mut self, outs: impl IntoIterator<Item = Out>) {
        for out in outs {
            match (&out, self.outs.last_mut()) {
                (Out::Event(frame), _) => self.bytes += frame.bytes().len(),
                (Out::Skipped { from, to }, Some(Out::Skipped { to: last, .. }))
                    if *last + 1 == *from =>
                {
                    *last = *to;
                    continue;
                }
                _ => {}
            }
            self.outs.push(out);
        }
    }
}
