//! What a stream is told of a room when it begins, beside the log: the values that notices
//! have told of before.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use parlance_log::{EpochId, Error};
use parlance_proto::frame::Frame;
use parlance_types::{LogId, RoomId, RoomKind};

/// Knows the present values of rooms.
pub trait Presents: fmt::Debug + Send + Sync {
    /// Whether rooms of this kind have any.
    fn has(&self, kind: RoomKind) -> bool;

    /// Reads those of some logs: at least what was told before the call. Logs that have
    /// none, or too many, are left out.
    fn read<'a>(&'a self, log_ids: &'a [LogId]) -> BoxFuture<'a, Result<Vec<Present>, Error>>;
}

/// The present values of a room.
pub struct Present {
    pub log_id: LogId,
    /// The epoch that they hold in.
    pub epoch: EpochId,
    /// The kind of the notices that tell them.
    pub kind: u32,
    /// What each is about, and its rank: as in those notices.
    pub values: Vec<(Bytes, i64)>,
    /// Makes the frame that tells some of them.
    pub frame: MakeFrame,
}

/// Makes the frame of those values that are to be told.
pub type MakeFrame = Box<dyn FnOnce(&RoomId, &[bool]) -> Frame + Send>;

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Present").field("log_id", &self.log_id).finish_non_exhaustive()
    }
}
