//! Rooms in SQL, one body for SQLite and Postgres.

mod requests;
mod rooms;
mod row;

use parlance_db::Db;

/// The rooms of all tenants, on disk.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    db: Db,
}

/// What became of a room that was to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in creation.
    Done,
    /// The request was made before.
    Repeat,
    /// One of its ids, or its pair, is taken.
    Taken,
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }
}
