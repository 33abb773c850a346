//! `SendMessages`: made as its answers are read, without a task or a queue of its own.
//!
//! ```text
//! requests    m1 m2 m3 | m4 ...    not read while 256 are open
//! beginning      m3                the log of its room is looked up
//! open        m1 m2                with the writer, in this order
//! ```

use std::pin::Pin;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, ready};
use futures::stream::{FuturesOrdered, Stream, StreamExt as _, unfold};
use parlance_log::Sent;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::send_messages_response::Answer;
use parlance_rpc::{Caller, Each, Reason, Refusal, unreadable};
use prost::Message as _;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};

use super::{MessageGrpc, Messages, Pace, accepted, draft};
use crate::Error;

/// Messages of one call that are read and have no answer yet.
const OPEN: usize = 256;

/// A call on which no message came for so long ends.
const IDLE: Duration = Duration::from_mins(10);

/// A token that holds longer holds as long as any stream lives.
const FOREVER: Duration = Duration::from_hours(365 * 24);

pub(crate) type Answers =
    Pin<Box<dyn Stream<Item = Result<pb::SendMessagesResponse, Status>> + Send>>;

/// A message that has no answer yet.
type Open = BoxFuture<'static, pb::SendMessagesResponse>;

/// One call.
pub(super) struct Sending {
    messages: Messages,
    caller: Caller,
    each: Each,
    requests: Streaming<pb::SendMessagesRequest>,
    /// The message that was read last, until it is queued: the next one is queued behind it.
    beginning: Option<BoxFuture<'static, Open>>,
    open: FuturesOrdered<Open>,
    state: State,
    pace: Pace,
    draining: CancellationToken,
    /// As the clock told when the call began.
    expires: Instant,
    life: Instant,
    /// When the next answer must have gone out, be it an empty one.
    heartbeat: Instant,
    idle: Instant,
}

/// Where a call stands.
enum State {
    Reading,
    /// It ends so, once everything that was read is answered.
    Ending(Result<(), Status>),
    Over,
}

impl Sending {
    pub(super) fn new(
        service: &MessageGrpc,
        caller: Caller,
        request: Request<Streaming<pb::SendMessagesRequest>>,
    ) -> Self {
        let (messages, pace) = (service.messages.clone(), service.pace.clone());
        let left = u64::try_from(caller.expires.saturating_sub(messages.now())).unwrap_or(0);
        let now = Instant::now();
        let life = now + rand::random_range(pace.life.clone());
        Self {
            expires: now + Duration::from_micros(left).min(FOREVER),
            life: caller.leaves.map_or(life, |leaves| leaves.min(life)),
            heartbeat: now + rand::random_range(pace.heartbeat.clone()),
            idle: now + IDLE,
            each: Each::of(&request),
            requests: request.into_inner(),
            beginning: None,
            open: FuturesOrdered::new(),
            state: State::Reading,
            draining: service.draining.clone(),
            messages,
            caller,
            pace,
        }
    }

    /// The answers, in the order of the requests.
    pub(super) fn answers(self) -> Answers {
        let next = |mut sending: Self| async move { Some((sending.next().await?, sending)) };
        Box::pin(unfold(self, next))
    }

    /// The next answer; in the end, how the call failed if it did.
    async fn next(&mut self) -> Option<Result<pb::SendMessagesResponse, Status>> {
        loop {
            if matches!(self.state, State::Over) {
                return None;
            }
            if self.is_expired() {
                self.state = State::Over;
                return Some(Err(expired()));
            }
            let goes_on = matches!(self.state, State::Reading);
            if !goes_on && !self.is_open() {
                let ended = std::mem::replace(&mut self.state, State::Over);
                let State::Ending(Err(status)) = ended else { return None };
                return Some(Err(status));
            }
            let all_queued = self.beginning.is_none();
            let reads = goes_on && all_queued && self.open.len() < OPEN;
            let alarm = self.alarm();
            tokio::select! {
                biased;
                Some(answer) = self.open.next() => return Some(Ok(self.answered(answer))),
                open = queued(&mut self.beginning), if !all_queued => {
                    self.beginning = None;
                    self.open.push_back(open);
                }
                () = self.draining.cancelled(), if goes_on => self.go_away(),
                request = self.requests.message(), if reads => self.take(request),
                () = sleep_until(alarm) => {
                    if let Some(sign) = self.look_at_times() {
                        return Some(Ok(sign));
                    }
                }
            }
        }
    }

    fn answered(&mut self, answer: pb::SendMessagesResponse) -> pb::SendMessagesResponse {
        self.heartbeat = Instant::now() + rand::random_range(self.pace.heartbeat.clone());
        answer
    }

    /// The first of the times at which there is something to do.
    fn alarm(&self) -> Instant {
        let always = self.expires.min(self.heartbeat);
        match self.state {
            State::Reading if self.is_open() => always.min(self.life),
            State::Reading => always.min(self.life).min(self.idle),
            _ => always,
        }
    }

    /// Whether a message has no answer yet.
    fn is_open(&self) -> bool {
        self.beginning.is_some() || !self.open.is_empty()
    }

    /// Does what is due; gives the sign of life if that is.
    fn look_at_times(&mut self) -> Option<pb::SendMessagesResponse> {
        let now = Instant::now();
        if matches!(self.state, State::Reading) {
            if now >= self.life {
                self.go_away();
            } else if now >= self.idle && !self.is_open() {
                self.state = State::Ending(Ok(()));
            }
        }
        let quiet = now >= self.heartbeat;
        quiet.then(|| self.answered(pb::SendMessagesResponse { answer: None }))
    }

    /// Reads no more, so that the caller goes on elsewhere.
    fn go_away(&mut self) {
        self.state = State::Ending(Err(Error::draining().into()));
    }

    /// The wall clock may have been set right since the call began.
    fn is_expired(&self) -> bool {
        Instant::now() >= self.expires || self.messages.now() >= self.caller.expires
    }

    fn take(&mut self, request: Result<Option<pb::SendMessagesRequest>, Status>) {
        match request {
            Ok(Some(request)) => {
                self.idle = Instant::now() + IDLE;
                self.beginning = Some(self.begin(request.message.unwrap_or_default()));
            }
            Ok(None) => self.state = State::Ending(Ok(())),
            Err(status) => self.state = State::Ending(Err(unreadable(status))),
        }
    }

    /// Judges a message as the layers do a call; what is given back queues it.
    fn begin(&self, message: pb::SendMessageRequest) -> BoxFuture<'static, Open> {
        let begun = self.each.admit(message.encoded_len()).map_err(Status::from);
        let begun = begun.and_then(|admitted| {
            if message.request_id.is_empty() {
                return Err(Error::invalid("request_id", "is required").into());
            }
            Ok((admitted, draft(&self.caller, message, self.messages.now())?))
        });
        let (admitted, (room_id, draft)) = match begun {
            Ok(begun) => begun,
            Err(status) => return ready(ready(refused(&status)).boxed()).boxed(),
        };
        let (messages, actor, deadline) =
            (self.messages.clone(), self.caller.clone().into(), self.each.deadline());
        let each = self.each.clone();
        let queue = async move { deadline.bound(messages.queue(actor, room_id, draft)).await };
        let open = move |queued: Result<BoxFuture<'static, Result<Sent, Error>>, Error>| {
            let rest = async move {
                let sent = match queued {
                    Ok(queued) => deadline.bound(queued).await,
                    Err(error) => Err(error),
                };
                drop(admitted);
                match sent {
                    Ok(sent) => {
                        let answer = Some(Answer::Sent(accepted(&sent)));
                        pb::SendMessagesResponse { answer }
                    }
                    Err(error) => refused(&error.into()),
                }
            };
            each.does(rest).boxed()
        };
        self.each.does(queue).map(open).boxed()
    }
}

/// Waits until the message that was read last is queued.
async fn queued(beginning: &mut Option<BoxFuture<'static, Open>>) -> Open {
    match beginning {
        Some(queued) => queued.await,
        None => std::future::pending().await,
    }
}

fn refused(status: &Status) -> pb::SendMessagesResponse {
    let bytes = match status.details() {
        [] => {
            let (code, message) = (status.code().into(), status.message().to_owned());
            tonic_types::Status { code, message, details: Vec::new() }.encode_to_vec()
        }
        details => details.to_vec(),
    };
    pb::SendMessagesResponse { answer: Some(Answer::Refused(bytes)) }
}

fn expired() -> Status {
    Refusal::new(Reason::TokenExpired, "the token expired").into()
}
