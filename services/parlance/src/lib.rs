//! The programs of Parlance: all of it in one process and on one port, the
//! embedded mode, with the commands around it; and each service on its own.
//!
//! `settings` reads the configuration, `services` puts the services together, and
//! `process` runs them. What a program is differs by its [`Part`] alone.

mod backup;
mod check;
pub mod cli;
mod data_dir;
mod demo;
mod environment;
mod failure;
mod files;
mod fit;
mod guide;
mod healthcheck;
mod metrics;
pub mod process;
mod readiness;
pub mod service;
mod services;
pub mod settings;
mod tenant_rate;
mod token;
pub mod values;

pub use failure::Failure;
use failure::exit;
pub use services::Part;
