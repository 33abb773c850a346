//! When a stream has something to do though nothing happens.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::Options;

/// The times of one stream, and one timer for the first of them.
#[derive(Debug)]
pub(super) struct Clock {
    heartbeat: Instant,
    life: Instant,
    /// When the caller's token expires.
    expires: Instant,
    alarm: Pin<Box<Sleep>>,
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
    pub(super) fn new(options: &Options, expires_in: Duration) -> Self {
        let now = Instant::now();
        let heartbeat = now + rand::random_range(options.heartbeat.clone());
        Self {
            heartbeat,
            life: now + rand::random_range(options.life.clone()),
            expires: now + expires_in,
            alarm: Box::pin(sleep_until(heartbeat)),
        }
    }

    pub(super) fn is_expired(&self) -> bool {
        Instant::now() >= self.expires
    }

    /// Waits for the first of the times, or until `other`.
    pub(super) fn poll(&mut self, other: Option<Instant>, context: &mut Context<'_>) -> Poll<Due> {
        let first = self.expires.min(self.life).min(self.heartbeat);
        let first = other.map_or(first, |other| other.min(first));
        if self.alarm.deadline() != first {
            self.alarm.as_mut().reset(first);
        }
        ready!(self.alarm.as_mut().poll(context));
        let now = Instant::now();
        Poll::Ready(if now >= self.expires {
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
