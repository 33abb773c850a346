//! What every stream of the service shares: a bounded number per caller, frames
//! from a task, and the ways to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use parlance_rpc::{Caller, Principal};
use parlance_types::{Clock, TenantId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::Error;
use crate::domain::Options;

/// The frames of a call.
pub(super) type Frames<T> = ReceiverStream<Result<T, Status>>;

/// A token that holds longer holds as long as any stream lives.
const FOREVER: Duration = Duration::from_hours(365 * 24);

type Key = (TenantId, Principal);

/// The open streams of every caller.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    most: usize,
    open: Arc<Mutex<HashMap<Key, usize>>>,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
}

/// An open stream, counted until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Streams,
    key: Key,
}

/// When a stream ends by itself.
#[derive(Debug)]
pub(super) struct Life {
    expires: Instant,
    over: Instant,
    draining: CancellationToken,
    /// How long after the drain began.
    drained_after: Duration,
}

impl Streams {
    pub(crate) fn new(most: usize, clock: Arc<dyn Clock>) -> Self {
        Self { most, open: Arc::default(), clock, draining: CancellationToken::new() }
    }

    /// The same streams, which `draining` ends.
    pub(crate) fn ended_by(&self, draining: CancellationToken) -> Self {
        Self { draining, ..self.clone() }
    }

    pub(super) fn open(&self, caller: &Caller) -> Result<OpenStream, Error> {
        if self.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        let key = (caller.tenant_id.clone(), caller.principal.clone());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key.clone()).or_default();
        if *count >= self.most {
            return Err(Error::TooManyStreams);
        }
        *count += 1;
        Ok(OpenStream { streams: self.clone(), key })
    }

    /// How long a stream that begins now lives: as long as the caller's token holds, the
    /// node serves, and streams live.
    pub(super) fn life(&self, caller: &Caller, options: &Options) -> Life {
        let left = u64::try_from(caller.expires.saturating_sub(self.clock.now())).unwrap_or(0);
        let now = Instant::now();
        Life {
            expires: now + Duration::from_micros(left).min(FOREVER),
            over: now + rand::random_range(options.life.clone()),
            draining: self.draining.clone(),
            drained_after: rand::random_range(Duration::ZERO..=options.spread),
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

impl Life {
    /// Waits for the end; `None`: the reader has gone, or shall come again.
    pub(super) async fn over<T>(&self, frames: &mpsc::Sender<T>) -> Option<Error> {
        let drained = async {
            self.draining.cancelled().await;
            sleep(self.drained_after).await;
        };
        tokio::select! {
            biased;
            () = frames.closed() => None,
            () = sleep_until(self.expires) => Some(Error::TokenExpired),
            () = drained => Some(Error::Draining),
            () = sleep_until(self.over) => None,
        }
    }
}
