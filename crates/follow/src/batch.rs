//! The part of a room that a stream puts out at once.

use super::cursor::Out;

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
    bytes: usize,
    limits: BatchLimits,
}

impl Batch {
    pub(crate) const fn new(limits: BatchLimits) -> Self {
        Self { outs: Vec::new(), bytes: 0, limits }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.outs.len() >= self.limits.frames || self.bytes >= self.limits.bytes
    }

    pub(crate) fn extend(&mut self, outs: impl IntoIterator<Item = Out>) {
        for out in outs {
            if let Out::Event(frame) = &out {
                self.bytes += frame.bytes().len();
            }
            self.outs.push(out);
        }
    }
}
