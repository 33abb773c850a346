//! The way into both databases.

mod locks;
mod migrations;
mod postgres;
mod queries;
mod silence;
mod sqlite;
mod turns;
