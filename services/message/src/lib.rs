//! The message service: the log of every room, and the streams that follow it.
//!
//! A folder for each noun: its values and rules (`mod.rs`), its SQL (`store.rs`), its RPCs
//! (`grpc.rs`). The logs themselves are `parlance_log`; `parlance_follow` streams them.

use parlance_db::Migrations;

pub mod fact;
pub mod inbox;
pub mod mark;
pub mod message;
pub mod notice;
pub mod operator;
mod service;
pub mod stream;
mod wire;

pub use parlance_follow::Options as StreamOptions;
pub use parlance_log::{Error, Options as LogOptions, Store};
pub use service::{Config, Service};

/// The schema of this service.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();
