//! What passes over a connection, looked at frame by frame. The HTTP library bounds
//! the memory that a client can take; it answers pings, settings and resets for as
//! long as they come. Here they are counted: a flood of frames that carry nothing ends the
//! connection, and one that resets many calls is read more slowly. To cancel is no attack.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::line::Line;

/// Kinds of frames, RFC 9113 section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The length of a frame's head, and of what a client says before its first frame.
const HEAD: usize = 9;
const PREFACE: usize = 24;

/// How far a connection has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    settled: AtomicBool,
}

impl Progress {
    /// Whether the client sent its settings.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }
}

/// How many more frames of a kind are allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    left: u32,
    most: u32,
    /// How soon one more is allowed.
    every: Duration,
    /// Up to when time was counted.
    counted: Instant,
}

impl Allowance {
    pub(super) fn new(most: u32, every: Duration) -> Self {
        Self { left: most, most, every, counted: Instant::now() }
    }

    /// Takes one; no if there is none.
    fn take(&mut self) -> bool {
        if self.left == 0 {
            let passed = self.counted.elapsed().as_nanos() / self.every.as_nanos().max(1);
            self.left = u32::try_from(passed).unwrap_or(u32::MAX).min(self.most);
            self.counted = Instant::now();
        } else if self.left == self.most {
            self.counted = Instant::now();
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    fn give(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

/// Finds the frames in the bytes of one direction.
#[derive(Debug)]
struct Frames {
    /// Bytes to pass over: of the preface, or of a frame's content.
    skip: usize,
    head: [u8; HEAD],
    /// How much of the head is there.
    have: usize,
}

impl Frames {
    fn after(skip: usize) -> Self {
        Self { skip, head: [0; HEAD], have: 0 }
    }

    /// Calls `each` with the kind of every frame that begins in these bytes.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let part = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have == HEAD {
                let [a, b, c, kind, ..] = self.head;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.have = 0;
                each(kind);
            }
        }
    }
}

/// A connection that is looked at. It fails when its client floods it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    incoming: Frames,
    outgoing: Frames,
    /// Frames that carry nothing, while no answer goes out.
    idle: Allowance,
    progress: Arc<Progress>,
    line: Arc<Line>,
    /// Until when nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(
        stream: S,
        idle: Allowance,
        progress: Arc<Progress>,
        line: Arc<Line>,
    ) -> Self {
        let (incoming, outgoing) = (Frames::after(PREFACE), Frames::after(0));
        Self { stream, incoming, outgoing, idle, progress, line, pause: None }
    }

    fn came(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { incoming, idle, progress, line, .. } = self;
        let mut flood = None;
        incoming.pass(bytes, |kind| {
            let allowed = match kind {
                DATA | HEADERS | WINDOW_UPDATE | CONTINUATION => true,
                RST_STREAM => {
                    line.pace().take();
                    true
                }
                _ => {
                    if kind == SETTINGS {
                        progress.settled.store(true, Ordering::Relaxed);
                    }
                    idle.take()
                }
            };
            if !allowed {
                flood = Some(kind);
            }
        });
        match flood {
            None => Ok(()),
            Some(kind) => {
                tracing::info!(kind, "ended a connection that was flooded with frames");
                Err(io::Error::other("too many frames that carry nothing"))
            }
        }
    }

    fn went(&mut self, bytes: &[u8]) {
        let Self { outgoing, idle, line, .. } = self;
        outgoing.pass(bytes, |kind| match kind {
            DATA | HEADERS => idle.give(u32::MAX),
            // Of ours, for a call that made no sense.
            RST_STREAM => line.pace().take(),
            _ => {}
        });
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Waits while the connection is ahead of its pace.
    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(context).is_pending() {
                    // What is below writes when it is read.
                    let _nothing =
                        Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut []));
                    return Poll::Pending;
                }
                self.pause = None;
            }
            let wait = self.line.pace().wait();
            let Some(wait) = wait else { return Poll::Ready(()) };
            self.pause = Some(Box::pin(sleep(wait)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_pause(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.came(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.went(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            self.went(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![b'x'; PREFACE];
        let mut expected = Vec::new();
        for (kind, length) in [(SETTINGS, 0_usize), (HEADERS, 300), (DATA, 70_000), (6, 8)] {
            let size = u32::try_from(length).expect("small").to_be_bytes();
            bytes.extend([size[1], size[2], size[3], kind, 0, 0, 0, 0, 1]);
            bytes.extend(std::iter::repeat_n(4, length));
            expected.push(kind);
        }
        for cut in [1, 2, 7, 9, 33, 1000, bytes.len()] {
            let (mut frames, mut found) = (Frames::after(PREFACE), Vec::new());
            bytes.chunks(cut).for_each(|part| frames.pass(part, |kind| found.push(kind)));
            assert_eq!(found, expected, "{cut}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_allowed_comes_back_with_time_and_with_answers() {
        let mut allowance = Allowance::new(3, Duration::from_secs(1));
        assert!((0..3).all(|_| allowance.take()));
        assert!(!allowance.take());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!((0..2).all(|_| allowance.take()));
        assert!(!allowance.take());
        allowance.give(1);
        assert!(allowance.take());
        assert!(!allowance.take());
        // One every second, for ever.
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(allowance.take());
        }
    }
}
