//! What the handlers share: who calls, and streams: a bounded number per caller, per service
//! token, per tenant and in all, frames from a task, and the ways to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use parlance_rpc::{Caller, Env, Principal, carry};
use parlance_types::{Clock, Micros, TenantId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::session::User;
use crate::{Error, Options, Share};

/// The user who calls.
pub(crate) fn user(caller: &Caller) -> Result<User, Status> {
    Ok((caller.tenant_id.clone(), caller.require_user()?.clone()))
}

/// The frames of a call.
pub(crate) type Frames<T> = ReceiverStream<Result<T, Status>>;

/// A token that holds longer holds as long as any stream lives.
const FOREVER: Duration = Duration::from_hours(365 * 24);

/// How often a stream looks at the clock.
const LOOK: Duration = Duration::from_secs(10);

/// Whose streams are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Caller(TenantId, Principal),
    /// A service token, whoever it acts for: it may make up as many users as it likes.
    Backend(TenantId, String),
    Tenant(TenantId),
    All,
}

/// How long the end of a stream waits to be read.
const LAST_FRAME: Duration = Duration::from_secs(10);

/// The open streams of every caller.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<Key, Share>>>,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
    options: Arc<Options>,
}

/// An open stream, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream {
    streams: Streams,
    keys: Vec<Key>,
    watched: usize,
}

/// When a stream ends by itself.
#[derive(Debug)]
struct Life {
    /// When the caller's token expires.
    expires: Micros,
    /// The same, as the clock told when the stream began.
    due: Instant,
    clock: Arc<dyn Clock>,
    over: Instant,
    draining: CancellationToken,
    /// How long after the drain began.
    drained_after: Duration,
}

impl Key {
    fn of(caller: &Caller) -> Vec<Self> {
        let (tenant_id, principal) = (caller.tenant_id.clone(), caller.principal.clone());
        let mut keys = vec![Self::All, Self::Tenant(tenant_id.clone())];
        if let Principal::Service | Principal::ServiceFor(_) = principal {
            keys.push(Self::Backend(tenant_id.clone(), caller.subject.clone()));
        }
        keys.push(Self::Caller(tenant_id, principal));
        keys
    }

    fn most(&self, options: &Options) -> Share {
        match self {
            Self::Caller(..) => options.per_caller,
            Self::Backend(..) => options.per_backend,
            Self::Tenant(_) => options.per_tenant,
            Self::All => options.in_all,
        }
    }
}

impl Streams {
    pub(crate) fn new(env: &Env, options: &Options) -> Self {
        let (clock, draining) = (Arc::clone(&env.clock), env.draining.clone());
        Self { open: Arc::default(), clock, draining, options: Arc::new(options.clone()) }
    }

    /// A stream that watches so many users.
    pub(crate) fn open(&self, caller: &Caller, watched: usize) -> Result<OpenStream, Error> {
        if self.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = Key::of(caller);
        let fits = |key: &Key| {
            let Share { streams, watched: others } = open.get(key).copied().unwrap_or_default();
            let most = key.most(&self.options);
            streams < most.streams && others + watched <= most.watched
        };
        match keys.iter().rfind(|key| !fits(key)) {
            // No stream of the caller's own to close.
            Some(Key::All) => return Err(Error::Overloaded),
            Some(_) => return Err(Error::TooManyStreams),
            None => {}
        }
        for key in &keys {
            let share = open.entry(key.clone()).or_default();
            *share = Share { streams: share.streams + 1, watched: share.watched + watched };
        }
        Ok(OpenStream { streams: self.clone(), keys, watched })
    }

    /// How many are open, and how many users they watch together.
    pub(crate) fn all(&self) -> (usize, usize) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Share { streams, watched } = open.get(&Key::All).copied().unwrap_or_default();
        (streams, watched)
    }

    /// How long a stream that begins now lives: as long as the caller's token holds, the
    /// node serves, and streams live.
    fn life(&self, caller: &Caller) -> Life {
        let left = u64::try_from(caller.expires.saturating_sub(self.clock.now())).unwrap_or(0);
        let now = Instant::now();
        let over = now + rand::random_range(self.options.life.clone());
        Life {
            expires: caller.expires,
            due: now + Duration::from_micros(left).min(FOREVER),
            clock: Arc::clone(&self.clock),
            over: caller.leaves.map_or(over, |leaves| leaves.min(over)),
            draining: self.draining.clone(),
            drained_after: rand::random_range(Duration::ZERO..=self.options.spread),
        }
    }
}

impl OpenStream {
    /// The frames that `tell` sends, at most `waiting` ahead of their reader, until the
    /// stream is over. Its last frame says why, if there is something to say.
    pub(crate) fn run<T, F, W>(self, caller: &Caller, waiting: usize, tell: F) -> Frames<T>
    where
        T: Send + 'static,
        F: FnOnce(mpsc::Sender<Result<T, Status>>) -> W,
        W: Future<Output = Option<Error>> + Send + 'static,
    {
        let (sender, frames) = mpsc::channel(waiting);
        let life = self.streams.life(caller);
        let telling = tell(sender.clone());
        let whole = async move {
            let ended = tokio::select! {
                ended = life.over(&sender) => ended,
                ended = telling => ended,
            };
            if let Some(ended) = ended
                && sender.send_timeout(Err(ended.into()), LAST_FRAME).await.is_err()
            {
                tracing::debug!("nobody reads how a stream ended");
            }
            drop(self);
        };
        tokio::spawn(carry(whole));
        ReceiverStream::new(frames)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if let Some(share) = open.get_mut(key) {
                share.streams -= 1;
                share.watched -= self.watched;
                if share.streams == 0 {
                    open.remove(key);
                }
            }
        }
    }
}

impl Life {
    /// Waits for the end of the token. The clock may have been wrong when the stream began, and
    /// set right meanwhile.
    async fn expired(&self) {
        while Instant::now() < self.due && self.clock.now() < self.expires {
            sleep_until(self.due.min(Instant::now() + LOOK)).await;
        }
    }

    /// Waits for the end; `None`: the reader has gone, or shall come again.
    async fn over<T>(&self, frames: &mpsc::Sender<T>) -> Option<Error> {
        let drained = async {
            self.draining.cancelled().await;
            sleep(self.drained_after).await;
        };
        tokio::select! {
            biased;
            () = frames.closed() => None,
            () = self.expired() => Some(Error::TokenExpired),
            () = drained => Some(Error::Draining),
            () = sleep_until(self.over) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_types::ManualClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_the_clock_jumps_beyond_its_token() {
        const HOUR: Duration = Duration::from_hours(1);
        let clock = Arc::new(ManualClock::at(0));
        let (now, hour) = (Instant::now(), 3_600_000_000);
        let life = Life {
            expires: hour,
            due: now + HOUR,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            over: now + 2 * HOUR,
            draining: CancellationToken::new(),
            drained_after: Duration::ZERO,
        };
        let (frames, _reader) = mpsc::channel::<()>(1);
        let jump = async {
            sleep(Duration::from_secs(15)).await;
            clock.advance(hour);
        };
        let (ended, ()) = tokio::join!(life.over(&frames), jump);
        assert!(matches!(ended, Some(Error::TokenExpired)), "{ended:?}");
        assert_eq!(now.elapsed().as_secs(), 20);
    }
}
