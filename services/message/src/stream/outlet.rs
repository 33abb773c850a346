//! A stream as the transport reads it: its frames, and how it ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use parlance_proto::frame::Frame;

use super::Unavailable;
use super::hub::OpenStream;
use super::subscriber::Subscriber;

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

/// The frames of a stream, made as they are read.
#[derive(Debug)]
pub struct Frames {
    subscriber: Box<Subscriber>,
    /// The stream's place, until its reader is gone.
    _open: OpenStream,
}

impl Frames {
    pub(super) fn new(subscriber: Subscriber, open: OpenStream) -> Self {
        Self { subscriber: Box::new(subscriber), _open: open }
    }

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
