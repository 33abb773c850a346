//! A stream as the transport reads it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use parlance_proto::frame::Frame;

use super::failure::{Ended, TooManyStreams};
use super::hub::{Hub, OpenStream};
use super::subscriber::{Follow, Subscriber};

/// The frames of a stream, made as they are read.
#[derive(Debug)]
pub struct Frames {
    subscriber: Box<Subscriber>,
    /// The stream's place, until its reader is gone.
    _open: OpenStream,
}

impl Hub {
    /// Opens a stream. It ends when its reader is dropped, and counts as open until then.
    pub fn follow(&self, follow: Follow) -> Result<Frames, TooManyStreams> {
        let mailbox = Arc::default();
        let open = self.0.open_stream(&follow, &mailbox)?;
        let subscriber = Subscriber::new(Arc::clone(&self.0), mailbox, follow);
        Ok(Frames { subscriber: Box::new(subscriber), _open: open })
    }
}

impl Frames {
    /// Waits until there is something to read; fails if all there is is a failure.
    pub async fn begun(&mut self) -> Result<(), Ended> {
        poll_fn(|context| self.subscriber.poll_begun(context)).await
    }
}

impl Stream for Frames {
    type Item = Result<Frame, Ended>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.subscriber.poll_frame(context)
    }
}
