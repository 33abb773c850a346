//! The message service: the log of every room, and the streams that follow it.
//!
//! A request passes `grpc` (decode, call, encode), `domain` (values that cannot
//! be wrong) and `store` (SQL). `stream` follows logs in memory. `codec` is the
//! encoding of stored events.

use parlance_db::Migrations;

pub mod codec;
pub mod domain;
pub mod error;
pub mod grpc;
mod receipts;
mod service;
pub mod store;
pub mod stream;
mod vital;

pub use error::Error;
pub use service::{Config, Service};

/// The schema of this service.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();
