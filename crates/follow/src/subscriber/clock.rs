//! When a stream has something to do though nothing happens.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parlance_types::Micros;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Options;

/// A token that holds longer holds as long as any stream lives.
const FOREVER: Duration = Duration::from_hours(365 * 24);

/// The times of one stream, and one timer for the first of them.
#[derive(Debug)]
pub(super) struct Clock {
    heartbeat: Instant,
    life: Instant,
    expires: Expiry,
    alarm: Pin<Box<Sleep>>,
}

/// When the caller's token expires.
#[derive(Debug)]
struct Expiry {
    /// By the clock of the wall, which may have been wrong when the stream began, and set right
    /// meanwhile: so it is looked at whenever the stream has something to do.
    wall: Micros,
    clock: Arc<dyn parlance_types::Clock>,
    /// As the clock told when the stream began.
    due: Instant,
}

impl Expiry {
    fn new(wall: Micros, clock: &Arc<dyn parlance_types::Clock>) -> Self {
        let left = u64::try_from(wall.saturating_sub(clock.now())).unwrap_or(0);
        let due = Instant::now() + Duration::from_micros(left).min(FOREVER);
        Self { wall, clock: Arc::clone(clock), due }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.due || self.clock.now() >= self.wall
    }
}

/// The thing to do that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// End: the token has expired.
    Expiry,
    /// Go elsewhere: it has lived long enough.
    Move,
    Heartbeat,
    /// Something that the caller of `poll` knows of.
    Other,
}

impl Clock {
    pub(super) fn new(
        options: &Options,
        expires: Micros,
        leaves: Option<Instant>,
        clock: &Arc<dyn parlance_types::Clock>,
    ) -> Self {
        let now = Instant::now();
        let heartbeat = now + rand::random_range(options.heartbeat.clone());
        let life = now + rand::random_range(options.life.clone());
        Self {
            heartbeat,
            life: leaves.map_or(life, |leaves| leaves.min(life)),
            expires: Expiry::new(expires, clock),
            alarm: Box::pin(sleep_until(heartbeat)),
        }
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expires.is_over()
    }

    /// Waits for the first of the times, or until `other`.
    pub(super) fn poll(&mut self, other: Option<Instant>, context: &mut Context<'_>) -> Poll<Due> {
        let first = self.expires.due.min(self.life).min(self.heartbeat);
        let first = other.map_or(first, |other| other.min(first));
        if self.alarm.deadline() != first {
            self.alarm.as_mut().reset(first);
        }
        ready!(self.alarm.as_mut().poll(context));
        let now = Instant::now();
        Poll::Ready(if self.is_expired() {
            Due::Expiry
        } else if now >= self.life {
            Due::Move
        } else if now >= self.heartbeat {
            Due::Heartbeat
        } else {
            Due::Other
        })
    }

    /// Draws the time of the next heartbeat.
    pub(super) fn has_beaten(&mut self, options: &Options) {
        self.heartbeat = Instant::now() + rand::random_range(options.heartbeat.clone());
    }
}
