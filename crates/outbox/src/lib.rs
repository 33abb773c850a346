//! How facts get from a source, a service that owns state of rooms, into logs.
//!
//! A change and the fact that tells of it are committed together: [`register`]
//! and [`enqueue`] are part of the caller's transaction. [`Outbox::drive`] sends
//! what is pending; a reply that says OK follows it. [`Outbox::relay`] finishes
//! what no request could.
//!
//! Delivery: every committed fact reaches its log, in version order per log and
//! once in effect, since logs skip what they have applied. Facts are kept for
//! ever, so that a log restored to an earlier state gets them again.
//!
//! A source has [`MIGRATIONS`] beside its own.

use parlance_db::Migrations;

mod drive;
mod relay;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use drive::{Backlog, Counters, DriveError, Driven, Outbox};
pub use store::{LogVersion, OutboxLog, Silent, enqueue, enqueue_silent, lock, register};

/// The tables of an outbox. Their migrations are numbered from 1001.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();
