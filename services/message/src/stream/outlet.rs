//! Between a stream's task and the transport: few chunks, and how it ended.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::Stream;
use parlance_proto::frame::Frame;
use tokio::sync::mpsc;

use super::hub::OpenStream;
use super::{Unavailable, lock};

/// Why a stream failed.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("the token expired")]
    TokenExpired,
    #[error("the room does not exist")]
    RoomNotFound,
    #[error("the caller is not a member of the room")]
    NotAMember,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What the reader finds after everything that was queued.
#[derive(Debug, Default)]
struct Last {
    frames: Vec<Frame>,
    ended: Option<Ended>,
}

/// Where a stream's task puts its chunks.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) chunks: mpsc::Sender<Vec<Frame>>,
    last: Arc<Mutex<Last>>,
}

/// The frames of a stream, as the transport reads them.
#[derive(Debug)]
pub struct Frames {
    chunks: mpsc::Receiver<Vec<Frame>>,
    chunk: std::vec::IntoIter<Frame>,
    last: Arc<Mutex<Last>>,
    /// What is queued is held until it is read or dropped, and so is the stream's place.
    _open: OpenStream,
}

/// Connects a task with a reader by a queue of so many chunks.
pub(super) fn outlet(chunks: usize, open: OpenStream) -> (Outlet, Frames) {
    let (sender, receiver) = mpsc::channel(chunks);
    let last = Arc::default();
    let frames = Frames {
        chunks: receiver,
        chunk: Vec::new().into_iter(),
        last: Arc::clone(&last),
        _open: open,
    };
    (Outlet { chunks: sender, last }, frames)
}

impl Outlet {
    /// Ends the stream: after what was queued come `frames`, then OK or the failure.
    pub(super) fn end(self, frames: Vec<Frame>, ended: Option<Ended>) {
        *lock(&self.last) = Last { frames, ended };
    }
}

impl Frames {
    /// Waits until there is something to read; fails if all there is is a failure.
    pub async fn begun(&mut self) -> Result<(), Ended> {
        if let Some(chunk) = self.chunks.recv().await {
            self.chunk = chunk.into_iter();
            return Ok(());
        }
        let mut last = lock(&self.last);
        match last.ended.take() {
            Some(ended) if last.frames.is_empty() => Err(ended),
            ended => {
                last.ended = ended;
                Ok(())
            }
        }
    }
}

impl Stream for Frames {
    type Item = Result<Frame, Ended>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(frame) = self.chunk.next() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if let Some(chunk) = ready!(self.chunks.poll_recv(cx)) {
                self.chunk = chunk.into_iter();
                continue;
            }
            let mut last = lock(&self.last);
            if last.frames.is_empty() {
                let ended = last.ended.take();
                return Poll::Ready(ended.map(Err));
            }
            let frames = std::mem::take(&mut last.frames);
            drop(last);
            self.chunk = frames.into_iter();
        }
    }
}
