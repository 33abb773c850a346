//! Writes once for all that is ready.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is held at most, and what a quiet connection keeps room for, in bytes.
const MOST: usize = 64 * 1024;
const QUIET: usize = 4 * 1024;

/// A connection that holds what it shall write until its task was polled once more.
///
/// When an event goes to many streams, or a batch is answered, each of them wakes the
/// connection; it would write after every one of them, a system call and a packet each
/// time. The task of the connection steps back behind all others that are ready, and
/// finds what they have put out meanwhile.
///
/// A poll begins with a read: whoever drives this reads whenever it is polled, as
/// HTTP/2 does.
#[derive(Debug)]
pub(crate) struct Gather<T> {
    io: T,
    held: BytesMut,
    /// Whether it was held already when the present poll began.
    waited: bool,
}

impl<T> Gather<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, held: BytesMut::new(), waited: false }
    }
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(context, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        self.waited = false;
        self.held = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() >= MOST {
            ready!(self.poll_drain(context))?;
        }
        if self.held.is_empty() {
            self.held.reserve(QUIET);
        }
        let taken = bytes.len().min(MOST - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    // Not vectored: small frames then come in one piece, which is copied once more here.

    /// What is held is on its way, but not written.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() && !self.waited {
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waited {
            // One that cannot be written wakes the task when it can.
            if let Poll::Ready(Err(error)) = self.poll_drain(context) {
                return Poll::Ready(Err(error));
            }
        } else if !self.held.is_empty() {
            self.waited = true;
            context.waker().wake_by_ref();
        }
        Pin::new(&mut self.io).poll_read(context, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Polls as a connection does: reads, writes what there is, flushes.
    async fn turn(gather: &mut Gather<DuplexStream>, texts: &[&str]) {
        poll_fn(|context| {
            let mut gather = Pin::new(&mut *gather);
            let read = gather.as_mut().poll_read(context, &mut ReadBuf::new(&mut [0; 8]));
            assert!(read.is_pending(), "nobody writes to it");
            for text in texts {
                let written = gather.as_mut().poll_write(context, text.as_bytes());
                assert!(matches!(written, Poll::Ready(Ok(count)) if count == text.len()));
                assert!(matches!(gather.as_mut().poll_flush(context), Poll::Ready(Ok(()))));
            }
            Poll::Ready(())
        })
        .await;
    }

    async fn read(other: &mut DuplexStream) -> String {
        let mut bytes = [0; 64];
        let count = other.read(&mut bytes).await.expect("read");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[tokio::test]
    async fn what_comes_while_the_connection_steps_back_is_written_with_the_rest() {
        let (io, mut other) = duplex(64);
        let mut gather = Gather::new(io);
        for round in ["first", "second"] {
            turn(&mut gather, &[round]).await;
            turn(&mut gather, &[" and", " more"]).await;
            turn(&mut gather, &[]).await;
            assert_eq!(read(&mut other).await, format!("{round} and more"));
        }
    }

    #[tokio::test]
    async fn a_shutdown_writes_what_is_held() {
        let (io, mut other) = duplex(64);
        let mut gather = Gather::new(io);
        turn(&mut gather, &["bye"]).await;
        gather.shutdown().await.expect("shut down");
        assert_eq!(read(&mut other).await, "bye");
    }

    #[tokio::test]
    async fn no_more_is_held_than_may_be_and_nothing_is_lost() {
        let (io, mut other) = duplex(1000);
        let mut gather = Gather::new(io);
        let sent: Vec<u8> = (0..=255).cycle().take(3 * MOST).collect();
        let (mut received, expected) = (Vec::new(), sent.clone());
        let write = async {
            gather.write_all(&sent).await.expect("written");
            assert!(gather.held.len() <= MOST);
            gather.shutdown().await.expect("shut down");
        };
        let ((), read) = tokio::join!(write, other.read_to_end(&mut received));
        read.expect("read");
        assert!(received == expected);
    }
}
