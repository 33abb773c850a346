//! The frames of a stream that the transport takes next.

use std::collections::VecDeque;

use parlance_proto::frame::Frame;

use crate::batch::BatchLimits;

/// Frames that are ready, bounded.
#[derive(Debug)]
pub(super) struct Chunk {
    frames: VecDeque<Frame>,
    /// Bytes that were put in since it was empty.
    bytes: usize,
    limits: BatchLimits,
}

impl Chunk {
    pub(super) const fn new(limits: BatchLimits) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, limits }
    }

    pub(super) fn put(&mut self, frame: Frame) {
        self.bytes += frame.bytes().len();
        self.frames.push_back(frame);
    }

    pub(super) fn take(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front();
        if self.frames.is_empty() {
            self.bytes = 0;
        }
        frame
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= self.limits.frames || self.bytes >= self.limits.bytes
    }

    /// How much more may be put in.
    pub(super) fn space(&self) -> BatchLimits {
        BatchLimits {
            frames: self.limits.frames.saturating_sub(self.frames.len()),
            bytes: self.limits.bytes.saturating_sub(self.bytes),
        }
    }

    /// Gives back the memory that a burst took.
    pub(super) fn shrink(&mut self) {
        self.frames.shrink_to_fit();
    }
}
