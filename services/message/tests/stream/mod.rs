//! `Subscribe`, over real gRPC, on each database.

mod access;
mod faults;
mod follow;
pub(crate) mod harness;
mod lifetime;
mod receipts;
mod redis;
mod restored;
mod turns;
mod typing;
