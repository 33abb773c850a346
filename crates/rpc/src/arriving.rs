//! Requests on their way in.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::account::{Account, Counted, Full, Held};
use crate::{Late, Reason, Refusal, status};

/// How long the rest of a request may take to arrive, whatever its deadline.
pub(crate) const ARRIVES_WITHIN: Duration = Duration::from_secs(5);

/// When to come back after a refusal.
const RETRY: Duration = Duration::from_millis(250);

/// Whether a request was admitted. It is once it is there as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission(Arc<Mutex<Option<Counted>>>);

impl Admission {
    /// The place among the calls that are handled; none if the request was answered before
    /// it was there.
    pub(crate) fn take(&self) -> Option<Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pin_project! {
    /// A request's body. Its bytes are counted until it was decoded; it fails when the rest
    /// takes too long, or when there is no room for the call.
    pub(crate) struct Arriving {
        #[pin]
        body: Body,
        #[pin]
        due: Sleep,
        account: Arc<Account>,
        // None: the call needs no place.
        admission: Option<Admission>,
        held: Option<Held>,
        ended: bool,
    }
}

impl Arriving {
    pub(crate) fn new(body: Body, account: Arc<Account>, admission: Option<Admission>) -> Self {
        let due = sleep(ARRIVES_WITHIN);
        Self { body, due, account, admission, held: None, ended: false }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = this.body.poll_frame(context) else {
            ready!(this.due.poll(context));
            *this.ended = true;
            return Poll::Ready(Some(Err(status(&Late))));
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(refused) = this.account.hold_more(this.held, data.len())
        {
            *this.ended = true;
            return Poll::Ready(Some(Err(refused.into())));
        }
        // Trailers are the end too.
        *this.ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        if *this.ended
            && matches!(frame, None | Some(Ok(_)))
            && let Some(admission) = this.admission
        {
            match this.account.enter() {
                Ok(counted) => {
                    let mut place = admission.0.lock().unwrap_or_else(PoisonError::into_inner);
                    *place = Some(counted);
                }
                Err(full) => return Poll::Ready(Some(Err(overloaded(full).into()))),
            }
        }
        Poll::Ready(frame)
    }

    /// The end is to be seen: a call is admitted then.
    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// What is answered where there is no room.
pub(crate) fn overloaded(full: Full) -> Refusal {
    let message = match full {
        Full::All => "too many calls are being handled",
        Full::Tenant => "too many calls of this tenant are being handled",
        Full::Caller => "too many calls of this caller are being handled",
    };
    Refusal::new(Reason::Overloaded, message).retry_after(RETRY)
}
