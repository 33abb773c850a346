//! Streams of requests on their way in.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::account::{Account, Held};
use crate::arriving::ARRIVES_WITHIN;
use crate::{Late, status};

/// What stands in front of a message: whether it is compressed, and its length.
const HEADER: usize = 5;

pin_project! {
    /// The body of a stream of requests. What is there of a message counts until the message
    /// is there as a whole; the body fails when the rest of one takes too long.
    pub(crate) struct Flowing {
        #[pin]
        body: Body,
        // Set while a message is there in part.
        #[pin]
        due: Option<Sleep>,
        account: Arc<Account>,
        held: Option<Held>,
        place: Place,
        ended: bool,
    }
}

/// Where between and within its messages a body is.
#[derive(Debug, Default)]
struct Place {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    filled: usize,
    /// Bytes of the message that are to come; counts once the header is there.
    rest: usize,
}

impl Flowing {
    pub(crate) fn new(body: Body, account: Arc<Account>) -> Self {
        let place = Place::default();
        Self { body, due: None, account, held: None, place, ended: false }
    }
}

impl Place {
    /// Goes on by some bytes.
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let missing = HEADER - self.filled;
            let (header, rest) = bytes.split_at(missing.min(bytes.len()));
            self.header[self.filled..self.filled + header.len()].copy_from_slice(header);
            self.filled += header.len();
            if missing > 0 && self.filled == HEADER {
                let [_, length @ ..] = self.header;
                self.rest = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            }
            let message = self.rest.min(rest.len());
            self.rest -= message;
            bytes = &rest[message..];
            if self.filled == HEADER && self.rest == 0 {
                self.filled = 0;
            }
        }
    }

    /// Whether no message is there in part.
    fn is_between(&self) -> bool {
        self.filled == 0
    }
}

impl http_body::Body for Flowing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = this.body.poll_frame(context) else {
            if this.place.is_between() {
                return Poll::Pending;
            }
            // Counted from when it is waited for: while nobody reads, nothing can come.
            if this.due.is_none() {
                this.due.set(Some(sleep(ARRIVES_WITHIN)));
            }
            ready!(this.due.as_mut().as_pin_mut().expect("set").poll(context));
            *this.ended = true;
            return Poll::Ready(Some(Err(status(&Late))));
        };
        this.due.set(None);
        let data = match &frame {
            Some(Ok(frame)) => frame.data_ref(),
            _ => None,
        };
        // Trailers are the end too.
        let Some(data) = data else {
            *this.ended = true;
            return Poll::Ready(frame);
        };
        this.place.pass(data);
        if this.place.is_between() {
            *this.held = None;
        } else if let Err(refused) = this.account.hold_more(this.held, data.len()) {
            *this.ended = true;
            return Poll::Ready(Some(Err(refused.into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::Instant;

    use super::*;
    use crate::Reason;
    use crate::account::Ledger;

    /// Two messages, of three bytes and of none, and the beginning of a third.
    const BYTES: &[u8] = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x02x";

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        for size in 1..=BYTES.len() {
            let (mut place, mut passed) = (Place::default(), 0);
            for piece in BYTES.chunks(size) {
                place.pass(piece);
                passed += piece.len();
                assert_eq!(place.is_between(), [8, 13].contains(&passed), "{size}: {passed}");
            }
            place.pass(b"y");
            assert!(place.is_between());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_message_has_five_seconds_from_when_it_is_waited_for() {
        let ledger = Arc::new(Ledger::new(8));
        let pieces = [&BYTES[..3], &BYTES[3..]]
            .map(|piece| Ok::<_, Status>(Frame::data(Bytes::from_static(piece))));
        let pieces = stream::iter(pieces).chain(stream::pending());
        let account = ledger.account(None, None);
        let mut body = Body::new(Flowing::new(Body::new(StreamBody::new(pieces)), account));
        body.frame().await.expect("a piece").expect("no failure");
        tokio::time::advance(ARRIVES_WITHIN * 2).await;
        body.frame().await.expect("a piece").expect("no failure");
        let began = Instant::now();
        let late = body.frame().await.expect("an end").expect_err("late");
        assert_eq!(Reason::of(&late), Some(Reason::DeadlineExceeded));
        assert_eq!(began.elapsed().as_secs(), ARRIVES_WITHIN.as_secs());
        drop(body);
        assert!(ledger.is_empty());
    }
}
