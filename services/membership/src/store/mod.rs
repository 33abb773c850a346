//! The directory and the rosters in SQL.

mod change;
mod read;
mod requests;
mod roster;
mod scene;
mod tx;
mod users;

use std::sync::Arc;

use parlance_db::Db;
use parlance_types::{Clock, LogId};

pub use change::Asked;
pub use read::MemberFilter;
pub use roster::Opening;

use tx::{Tx, in_tx, padded, placeholders};

/// The directory and the rosters.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    clock: Arc<dyn Clock>,
}

/// A committed change, whose facts may still have to be driven into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done<T> {
    pub log_id: LogId,
    pub value: T,
}

impl Store {
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }
}
