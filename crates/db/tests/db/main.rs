//! The way into both databases.

mod migrations;
mod queries;
mod silence;
