//! The message service: the log of every room, and the streams that follow it.
//!
//! A folder for each noun: its values and rules (`mod.rs`), its SQL (`store.rs`), its RPCs
//! (`grpc.rs`). `stream` follows logs in memory. The logs themselves are `parlance_log`.

use parlance_db::Migrations;

pub mod codec;
pub mod fact;
pub mod grpc;
pub mod inbox;
pub mod mark;
pub mod message;
pub mod notice;
pub mod operator;
mod service;
pub mod stream;
mod wire;

pub use parlance_log::{Error, Options as LogOptions, Store};
pub use service::{Config, Service};

/// The schema of this service.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();
