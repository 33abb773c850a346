//! Between a stream's task and the transport: few chunks, and how it ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use parlance_proto::frame::Frame;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

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
pub(super) struct Last {
    pub(super) frames: Vec<Frame>,
    pub(super) ended: Option<Ended>,
}

/// Where a stream's task puts its chunks.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) chunks: mpsc::Sender<Vec<Frame>>,
    queue: Arc<Mutex<Queue>>,
    /// Cancelled when the reader is gone.
    pub(super) gone: CancellationToken,
}

/// What lies between a stream's task and its reader. Both hold it: a transport that
/// nobody reads from does not ask for more, and does not let go either.
#[derive(Debug)]
struct Queue {
    chunks: mpsc::Receiver<Vec<Frame>>,
    chunk: std::vec::IntoIter<Frame>,
    last: Last,
    /// The stream's place: its own for as long as what is queued is held.
    open: Option<OpenStream>,
}

/// The frames of a stream, as the transport reads them.
#[derive(Debug)]
pub struct Frames {
    queue: Arc<Mutex<Queue>>,
    gone: CancellationToken,
}

/// Connects a task with a reader by a queue of so many chunks.
pub(super) fn outlet(chunks: usize, open: OpenStream) -> (Outlet, Frames) {
    let (sender, receiver) = mpsc::channel(chunks);
    let (chunk, last) = (Vec::new().into_iter(), Last::default());
    let queue = Queue { chunks: receiver, chunk, last, open: Some(open) };
    let (queue, gone) = (Arc::new(Mutex::new(queue)), CancellationToken::new());
    let frames = Frames { queue: Arc::clone(&queue), gone: gone.clone() };
    (Outlet { chunks: sender, queue, gone }, frames)
}

impl Outlet {
    /// Ends the stream: after what was queued comes `last`. If it is not read in time,
    /// what is queued is let go, and `instead` is all that a late reader finds.
    pub(super) async fn end(self, last: Last, patience: Duration, instead: Vec<Frame>) {
        let Self { chunks, queue, gone } = self;
        lock(&queue).last = last;
        drop(chunks);
        if timeout(patience, gone.cancelled()).await.is_err() {
            lock(&queue).clear(instead);
        }
    }
}

impl Queue {
    /// Lets go of everything but `frames`, and of the stream's place.
    fn clear(&mut self, frames: Vec<Frame>) {
        self.chunks.close();
        while self.chunks.try_recv().is_ok() {}
        self.chunk = Vec::new().into_iter();
        self.last.frames = frames;
        self.open = None;
    }
}

impl Frames {
    /// Waits until there is something to read; fails if all there is is a failure.
    pub async fn begun(&mut self) -> Result<(), Ended> {
        let chunk = poll_fn(|cx| lock(&self.queue).chunks.poll_recv(cx)).await;
        let mut queue = lock(&self.queue);
        if let Some(chunk) = chunk {
            queue.chunk = chunk.into_iter();
            return Ok(());
        }
        match queue.last.ended.take() {
            Some(ended) if queue.last.frames.is_empty() => Err(ended),
            ended => {
                queue.last.ended = ended;
                Ok(())
            }
        }
    }
}

impl Stream for Frames {
    type Item = Result<Frame, Ended>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(frame) = queue.chunk.next() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if let Some(chunk) = ready!(queue.chunks.poll_recv(cx)) {
                queue.chunk = chunk.into_iter();
                continue;
            }
            if queue.last.frames.is_empty() {
                let ended = queue.last.ended.take();
                return Poll::Ready(ended.map(Err));
            }
            queue.chunk = std::mem::take(&mut queue.last.frames).into_iter();
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        lock(&self.queue).clear(Vec::new());
        self.gone.cancel();
    }
}
