//! `Subscribe`, over real gRPC, on each database.

mod access;
mod faults;
mod follow;
pub(crate) mod harness;
mod lifetime;
mod redis;
mod turns;
mod typing;
