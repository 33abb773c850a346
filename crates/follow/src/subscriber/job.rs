//! Jobs of a stream: each is a task of its own, so that a stream that waits for its reader
//! holds up no connection to the database.

use std::sync::Arc;

use parlance_log::{EpochId, Person};
use parlance_types::{LogId, RoomId, Seq};

use crate::blocks::Block;
use crate::failure::{NotAttached, Unavailable};
use crate::hub::Attached;

/// The outcome of a job.
#[derive(Debug)]
pub(super) enum Done {
    Attached(RoomId, Result<Attached, NotAttached>),
    Listed(Result<List, Unavailable>),
    /// What is said of the user.
    Person(Result<Person, Unavailable>),
    /// The rooms that were asked for.
    Present(Vec<LogId>, Result<(), Unavailable>),
    Block(LogId, Result<Arc<Block>, Unavailable>),
    /// The time to try again has come.
    Attach(RoomId),
    List,
    AskPerson,
    TellPresent(Vec<LogId>),
    Pull(LogId),
}

/// The rooms of a user.
#[derive(Debug)]
pub(super) struct List {
    /// The epoch before the rooms were read.
    pub(super) epoch: EpochId,
    /// Each with the event that made the user a member.
    pub(super) rooms: Vec<(LogId, RoomId, Seq)>,
}
