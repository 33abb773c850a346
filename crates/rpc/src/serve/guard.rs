//! The task of a call, which ends it when its client takes nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::answer::Call;
use crate::line::Line;

/// How long a client may leave what is ended already: it cannot be reset any more, so its
/// connection ends.
const LEFT: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// The call that the present task handles.
    pub(super) static CALL: Arc<Call>;
}

/// Runs the calls of one connection, each in a task of its own.
#[derive(Clone, Debug)]
pub(super) struct Guard(pub(super) Arc<Line>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Guard {
    fn execute(&self, work: F) {
        let (call, line) = (Arc::default(), Arc::clone(&self.0));
        tokio::spawn(Guarded { work: Some(work), call, line, timer: None, left: None });
    }
}

pin_project! {
    /// A call: what the HTTP library does for it, then until what it was given was taken.
    ///
    /// The timer is here and not in the body of the answer: the library does not look at that
    /// while the client's window is shut. To drop the library's part resets the stream.
    struct Guarded<F> {
        #[pin]
        work: Option<F>,
        call: Arc<Call>,
        line: Arc<Line>,
        #[pin]
        timer: Option<Sleep>,
        // When what the library still has must be taken.
        left: Option<Instant>,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            let due = if let Some(work) = this.work.as_mut().as_pin_mut() {
                if CALL.sync_scope(Arc::clone(this.call), || work.poll(context)).is_ready() {
                    this.work.set(None);
                    continue;
                }
                let Some(due) = this.call.overdue() else { return Poll::Pending };
                due
            } else {
                if this.call.poll_taken(context).is_ready() {
                    return Poll::Ready(());
                }
                let overdue = this.call.overdue();
                *this.left.get_or_insert_with(|| {
                    let soon = Instant::now() + LEFT;
                    overdue.map_or(soon, |overdue| overdue.max(soon))
                })
            };
            // One that is set for earlier looks again then.
            if this.timer.as_ref().as_pin_ref().is_none_or(|timer| timer.deadline() > due) {
                this.timer.set(Some(sleep_until(due)));
            }
            ready!(this.timer.as_mut().as_pin_mut().expect("set").poll(context));
            this.timer.set(None);
            if Instant::now() < due {
                continue;
            }
            if this.work.is_none() {
                tracing::debug!("ended a connection whose client took no answer");
                this.line.end.cancel();
                return Poll::Ready(());
            }
            tracing::debug!("reset a call whose answer was not taken in time");
            this.work.set(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use hyper::server::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::service::TowerToHyperService;
    use tokio::io::duplex;
    use tokio::sync::oneshot;
    use tokio_stream::StreamExt as _;
    use tonic::Status;
    use tonic::body::Body;

    use super::super::answer::Answer;
    use super::*;
    use crate::line::Pace;

    /// A body of chunks without end, or of one and an end; what tells when it is dropped.
    fn body(chunk: usize, ends: bool) -> (Body, oneshot::Receiver<()>) {
        let (alive, dropped) = oneshot::channel::<()>();
        let chunks = tokio_stream::iter(0_u32..).map(move |number| {
            let _alive = &alive;
            Ok::<_, Status>(match number {
                1 if ends => Frame::trailers(http::HeaderMap::new()),
                _ => Frame::data(Bytes::from(vec![1; chunk])),
            })
        });
        let chunks = chunks.take(if ends { 2 } else { usize::MAX });
        (Body::new(StreamBody::new(chunks)), dropped)
    }

    /// How long after the call until its body was dropped, and until the connection ended,
    /// with a client that takes nothing but `window` bytes.
    async fn ends(
        body: (Body, oneshot::Receiver<()>),
        window: u32,
    ) -> (Duration, Option<Duration>) {
        let (body, dropped) = body;
        let (ours, theirs) = duplex(1 << 20);
        let line = Arc::new(Line::new(Pace::new(10, Duration::from_secs(1))));
        let body = Arc::new(std::sync::Mutex::new(Some(body)));
        let served = TowerToHyperService::new(tower::service_fn(
            move |_: http::Request<hyper::body::Incoming>| {
                let body = body.lock().expect("a lock").take().expect("one call");
                let call = CALL.with(Arc::clone);
                std::future::ready(Ok::<_, Infallible>(http::Response::new(Answer::new(
                    body, call, None,
                ))))
            },
        ));
        let mut builder = http2::Builder::new(Guard(Arc::clone(&line)));
        let serving = builder.max_send_buf_size(1024).serve_connection(TokioIo::new(ours), served);
        tokio::spawn(serving);
        let client = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake::<_, Body>(TokioIo::new(theirs));
        let (mut client, connection) = client.await.expect("a connection");
        tokio::spawn(connection);
        let began = Instant::now();
        let call = client
            .send_request(http::Request::get("http://server/").body(Body::empty()).expect("one"));
        let answer = call.await.expect("headers");
        assert!(dropped.await.is_err());
        let gone = began.elapsed();
        let cut = tokio::time::timeout(Duration::from_mins(5), line.end.cancelled()).await;
        let cut = cut.is_ok().then(|| began.elapsed());
        drop(answer);
        (gone, cut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_which_nothing_is_taken_is_dropped_in_time() {
        for window in [0, 1, 40_000] {
            let (gone, cut) = ends(body(30_000, false), window).await;
            assert_eq!(gone.as_secs(), 70, "window {window}");
            assert_eq!(cut, None, "it was reset, the connection goes on");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_an_ended_answer_is_left_ends() {
        let (gone, cut) = ends(body(100, true), 1).await;
        assert_eq!(gone.as_secs(), 0, "it was handed over with its end");
        assert_eq!(cut.map(|cut| cut.as_secs()), Some(70));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_happens_to_what_is_taken() {
        let (gone, cut) = ends(body(100, true), 1000).await;
        assert_eq!((gone.as_secs(), cut), (0, None));
    }
}
