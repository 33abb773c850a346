//! Answers on their way out, in pieces that are counted until they were taken.
//!
//! The HTTP library keeps a chunk whole until the client's window lets it through, and looks
//! at a body again only then. So a chunk is handed to it in pieces; it holds one or two, and
//! what is behind them stays here, where it can be dropped. The end is handed over only when
//! the pieces are gone, as far as they are more than a little: a stream that was ended cannot
//! be reset.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::account::{Full, Held};
use crate::arriving::overloaded;
use crate::body::trailers;
use crate::shed::Charge;

/// What is handed to the HTTP library at once, in bytes.
const PIECE: usize = 16 * 1024;

/// What may wait on a connection so that an answer goes out with its end, in bytes: the window
/// that stock clients begin with.
const LITTLE: usize = 64 * 1024;

/// How long a client may take nothing of an answer. A stream is told goodbye before, for when
/// its client reads again.
const STALL: Duration = Duration::from_secs(70);

/// What an answer has beyond its deadline, for telling the client that it passed.
const SPARE: Duration = Duration::from_secs(1);

/// How soon a stream looks again for room.
const AGAIN: Duration = Duration::from_millis(100);

/// A call as its connection sees it.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// Pieces that were handed out and not taken.
    pieces: AtomicUsize,
    /// When one was taken last, or handed out while there was none; in milliseconds.
    moved: AtomicU64,
    /// By when everything must be taken; set when the answer begins.
    due: OnceLock<Option<Instant>>,
    /// The task of the call.
    waker: AtomicWaker,
}

/// What times are counted from.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Call {
    fn moves(&self) {
        let passed = u64::try_from(ORIGIN.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(passed, Ordering::Relaxed);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.pieces.load(Ordering::Acquire) == 0
    }

    /// Waits until everything that was handed out is taken.
    pub(super) fn poll_taken(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_taken() {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        if self.is_taken() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// When to give up on a client that does not take what there is, as things are now.
    pub(super) fn overdue(&self) -> Option<Instant> {
        let due = (*self.due.get()?).map(|due| due + SPARE);
        let moved = *ORIGIN + Duration::from_millis(self.moved.load(Ordering::Relaxed));
        let stalled = (!self.is_taken()).then(|| moved + STALL);
        due.into_iter().chain(stalled).min()
    }
}

/// A part of an answer. It counts as waiting until the HTTP library drops it: then it was
/// written, or will never be.
pub(super) struct Piece {
    bytes: Bytes,
    call: Arc<Call>,
    _held: Option<Arc<Waiting>>,
}

/// A chunk that waits to be taken: one piece keeps the whole of it in memory, and its call
/// counts as long.
struct Waiting {
    _bytes: Held,
    _charge: Arc<Charge>,
}

impl Piece {
    fn new(bytes: Bytes, call: &Arc<Call>, held: Option<Arc<Waiting>>) -> Self {
        if call.pieces.fetch_add(1, Ordering::Relaxed) == 0 {
            call.moves();
        }
        Self { bytes, call: Arc::clone(call), _held: held }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.call.moves();
        if self.call.pieces.fetch_sub(1, Ordering::Release) == 1 {
            self.call.waker.wake();
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    call: Arc<Call>,
    charge: Option<Arc<Charge>>,
    /// The chunk whose pieces are handed out.
    chunk: Bytes,
    held: Option<Arc<Waiting>>,
    /// A chunk for which there is no room yet.
    waits: Option<(Bytes, Pin<Box<Sleep>>)>,
    end: Option<Frame<Bytes>>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(body: Body, call: Arc<Call>, charge: Option<Arc<Charge>>) -> Self {
        let _first = call.due.set(charge.as_ref().and_then(|charge| charge.due));
        let chunk = Bytes::new();
        Self { body, call, charge, chunk, held: None, waits: None, end: None, ended: false }
    }

    /// Takes a chunk to hand it out, if there is room for it.
    fn takes(&mut self, chunk: Bytes) -> Result<(), Bytes> {
        if let Some(charge) = &self.charge {
            let Some(held) = charge.hold(chunk.len()) else { return Err(chunk) };
            self.held = Some(Arc::new(Waiting { _bytes: held, _charge: Arc::clone(charge) }));
        }
        self.chunk = chunk;
        Ok(())
    }

    /// What to do where there is no room: a stream waits, a call is refused.
    fn refuse(&mut self, chunk: Bytes) {
        if self.charge.as_ref().is_some_and(|charge| charge.streams) {
            self.waits = Some((chunk, Box::pin(sleep(AGAIN))));
        } else {
            self.end = Some(trailers(&overloaded(Full::Caller).into()));
            self.body = Body::empty();
        }
    }

    /// Whether the end may go out with what is before it.
    fn is_little(&self) -> bool {
        self.charge.as_ref().is_none_or(|charge| charge.bytes_of_line() <= LITTLE)
    }
}

impl http_body::Body for Answer {
    type Data = Piece;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Status>>> {
        let this = &mut *self;
        loop {
            if !this.chunk.is_empty() {
                let piece = this.chunk.split_to(this.chunk.len().min(PIECE));
                let held = this.held.clone();
                if this.chunk.is_empty() {
                    this.held = None;
                }
                return Poll::Ready(Some(Ok(Frame::data(Piece::new(piece, &this.call, held)))));
            }
            if let Some(end) = this.end.take() {
                if !this.is_little() && this.call.poll_taken(context).is_pending() {
                    this.end = Some(end);
                    return Poll::Pending;
                }
                this.ended = true;
                return Poll::Ready(end.into_trailers().ok().map(|end| Ok(Frame::trailers(end))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some((chunk, again)) = &mut this.waits {
                ready!(again.as_mut().poll(context));
                let chunk = std::mem::take(chunk);
                this.waits = None;
                if let Err(chunk) = this.takes(chunk) {
                    this.refuse(chunk);
                }
                continue;
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => this.ended = true,
                Some(Err(status)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => {
                        if let Err(chunk) = this.takes(chunk) {
                            this.refuse(chunk);
                        }
                    }
                    Err(end) => this.end = Some(end),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let nothing = self.chunk.is_empty() && self.end.is_none() && self.waits.is_none();
        nothing && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
