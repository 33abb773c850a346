//! Follows logs in memory and streams them.
//!
//! `log` and what it is made of (`entry`, `ring`, `budget`, `blocks`, `cursor`,
//! `attach`, `batch`) do no I/O and know no time; `hub` feeds them from the bus and the
//! store; `subscriber` is one open stream.

pub mod attach;
pub mod batch;
pub mod blocks;
pub mod budget;
pub mod cursor;
pub mod entry;
mod failure;
mod hub;
pub mod log;
mod mailbox;
#[cfg(test)]
mod model;
pub mod notice;
mod ongoing;
mod options;
mod outlet;
pub mod ring;
mod subscriber;

pub use failure::{Ended, Refused, TooManyStreams, Unavailable};
pub use hub::{Counters, Hub};
pub use options::Options;
pub use outlet::Frames;
pub use subscriber::{Follow, Wanted};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holders do not panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
