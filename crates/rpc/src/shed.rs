//! How much the process takes on at once, and how much of it for one caller.

use std::sync::Arc;

use http::{Request, Response};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use crate::account::{Account, Counted, Flow, Full, Held, Ledger, OpenStream};
use crate::arriving::{Admission, Arriving, overloaded};
use crate::auth::{TokenEnds, is_health, is_open};
use crate::flowing::Flowing;
use crate::line::{Line, OpenCall};
use crate::step::{Next, Step};
use crate::{Caller, Deadline, Reason, Refusal, reflection};

/// The step that bounds what is held: calls that are handled at once, and bytes of requests
/// and answers that are under way. Refuses the others at once, so that what is admitted keeps
/// its latency.
///
/// A call is handled from when its request is there until its answer was taken; an open stream
/// only until its first byte. Of a stream of requests each message counts as a call, see
/// [`Each`](crate::Each), and the streams themselves are few. One caller takes at most a quarter of the calls, the callers of
/// one tenant half. What needs no token counts apart: eight calls on a connection, so that
/// probes are answered whatever else there is.
#[derive(Clone, Debug)]
pub struct Shed(Arc<Ledger>);

impl Shed {
    /// Handles at most `calls` at once.
    pub fn new(calls: usize) -> Self {
        Self(Arc::new(Ledger::new(calls)))
    }
}

/// What an answer on its way out holds, in the extensions of the response.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    /// When it must be taken: a call by its deadline, a stream by its token's end, too.
    pub(crate) due: Option<Instant>,
    pub(crate) streams: bool,
    _call: Option<Counted>,
    _flow: Option<Flow>,
    _open: Option<Open>,
}

/// A call that needs no token.
type Open = (Option<OpenCall>, Option<OpenStream>);

impl Charge {
    /// Counts bytes that wait to be sent.
    pub(crate) fn hold(&self, bytes: usize) -> Option<Held> {
        self.account.hold(bytes)
    }

    pub(crate) fn bytes_of_line(&self) -> usize {
        self.account.bytes_of_line()
    }
}

impl Step for Shed {
    async fn run<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        let path = request.uri().path();
        let (streams, opens, health) = (reflection::streams(path), is_open(path), is_health(path));
        let line = request.extensions().get::<Arc<Line>>().cloned();
        let open = if opens {
            match self.open(line.as_ref(), streams) {
                Some(open) => Some(open),
                None => return Ok(Status::from(overloaded(Full::Caller)).into_http()),
            }
        } else {
            None
        };
        let caller = request.extensions().get::<Caller>();
        let account = self.0.account(caller, line);
        let flows = !opens && reflection::takes_stream(path);
        let due = due(&request, streams || flows);
        let flow = if flows {
            let Some(flow) = account.flow() else { return Ok(too_many_streams().into_http()) };
            Some(flow)
        } else {
            None
        };
        let admission = (!opens && !flows).then(Admission::default);
        request.extensions_mut().insert(Arc::clone(&account));
        // Those who ask reflection go on asking.
        let request = if opens && !health {
            request
        } else if flows {
            request.map(|body| Body::new(Flowing::new(body, Arc::clone(&account))))
        } else {
            let (account, admission) = (Arc::clone(&account), admission.clone());
            request.map(|body| Body::new(Arriving::new(body, account, admission)))
        };
        let mut response = next.call(request).await?;
        let call = admission.and_then(|admission| admission.take()).filter(|_| !streams);
        let charge = Charge { account, due, streams, _call: call, _flow: flow, _open: open };
        response.extensions_mut().insert(Arc::new(charge));
        Ok(response)
    }
}

impl Shed {
    /// A place for a call that needs no token.
    fn open(&self, line: Option<&Arc<Line>>, streams: bool) -> Option<Open> {
        let call = match line {
            Some(line) => Some(line.open_call()?),
            None => None,
        };
        let stream = if streams { Some(self.0.open_stream()?) } else { None };
        Some((call, stream))
    }
}

fn too_many_streams() -> Status {
    Refusal::new(Reason::TooManyStreams, "too many streams are open").into()
}

/// When the answer to a request must have been taken.
fn due(request: &Request<Body>, streams: bool) -> Option<Instant> {
    let deadline = request.extensions().get::<Deadline>().map(|deadline| deadline.0);
    let ends = request.extensions().get::<TokenEnds>().filter(|_| streams).map(|ends| ends.0);
    deadline.into_iter().chain(ends).min()
}
