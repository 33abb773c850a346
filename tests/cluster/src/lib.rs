//! The suite as real processes, with faults: what the tests of the whole stand on.
//!
//! A [`Cluster`] is so many replicas of each service on a Postgres database and a Redis of its
//! own; each can be stopped, killed, paused and rolled by its name. [`Traffic`]
//! sends and follows on it whatever happens, and records everything as a
//! [`history::History`]. The [`checker`] judges that against the stored log.
//!
//! A test starts both, does its harm, and asks for the verdict:
//!
//! ```text
//! let mut cluster = Cluster::start(2).await;
//! let traffic = Traffic::start(&cluster, Plan::default()).await;
//! cluster.kill(Kind::Message.replica(0)).await;
//! traffic.flows(200).await;
//! traffic.judge(&cluster).await;
//! cluster.finish().await;
//! ```

mod backup;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod database;
mod device;
mod embedded;
pub mod history;
pub mod postgres;
pub mod redis;
mod replica;
mod sender;
pub mod traffic;
mod viewer;

pub use backup::Way;
pub use client::Client;
pub use cluster::{Cluster, Kind, Name};
pub use device::{Device, Kept};
pub use embedded::Embedded;
pub use traffic::{Plan, Traffic};
pub use viewer::Viewer;

/// The tenant of all tests.
pub const TENANT: &str = "acme";
