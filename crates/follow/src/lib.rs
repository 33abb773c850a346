//! Follows logs in memory and streams them. Knows which events take access or content away, and
//! of all others only that they are bytes; of notices not even their kinds.
//!
//! `log` and its parts (`ahead`, `lost`, `entry`, `ring`, `budget`, `blocks`, `cursor`, `attach`, `batch`) do no
//! I/O and know no time; `hub` feeds them from the bus and the store; `subscriber` is one open
//! stream.

mod ahead;
mod attach;
mod batch;
mod blocks;
mod budget;
mod cursor;
mod entry;
mod failure;
pub mod frames;
mod hub;
mod log;
mod lost;
mod mailbox;
mod measure;
#[cfg(test)]
mod model;
mod notice;
mod ongoing;
mod options;
mod outlet;
mod present;
mod ring;
mod subscriber;
mod told;

pub use attach::Start;
pub use batch::BatchLimits;
pub use failure::{Ended, Refused, TooManyStreams, Unavailable};
pub use hub::{Counters, Hub};
pub use notice::{By, Key, Merge, Notice, Span};
pub use options::Options;
pub use outlet::Frames;
pub use present::{MakeFrame, Present, Presents};
pub use ring::Limits;
pub use subscriber::{Follow, Wanted};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holders do not panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
