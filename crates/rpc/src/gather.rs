//! Writes once for all that is ready.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose task steps back once before it writes. When an event goes to
/// many streams, or a batch is answered, each of them wakes the connection; without
/// this it would write after every one of them, a system call and a packet each time.
/// Who waits behind the others in the queue of the runtime finds all of it.
#[derive(Debug)]
pub(crate) struct Gather<T> {
    io: T,
    /// Whether it has stepped back since it last wrote all that there was.
    waited: bool,
}

impl<T> Gather<T> {
    pub(crate) const fn new(io: T) -> Self {
        Self { io, waited: false }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.waited {
            self.waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    // Not vectored: HTTP/2 then copies small frames into one buffer, and does not write
    // each of them alone.

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waited = false;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Counts writes.
    struct Counting(Arc<AtomicUsize>);

    impl AsyncWrite for Counting {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn others_come_before_a_write_and_none_before_the_rest_of_it() {
        let writes = Arc::new(AtomicUsize::new(0));
        let mut gather = Gather::new(Counting(Arc::clone(&writes)));
        for round in 0..2 {
            let seen = Arc::clone(&writes);
            let other = tokio::spawn(async move { seen.load(Ordering::Relaxed) });
            gather.write_all(b"one").await.expect("written");
            assert_eq!(other.await.expect("a count"), 2 * round, "the other came first");
            gather.write_all(b"the rest").await.expect("written");
            gather.flush().await.expect("flushed");
            assert_eq!(writes.load(Ordering::Relaxed), 2 * round + 2);
        }
    }
}
