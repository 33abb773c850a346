//! Events as they are stored, and facts on their way to become events.

use std::fmt;

use bytes::Bytes;
use parlance_types::{LogId, Micros, RoomId, Seq, TenantId, UserId};

use super::RoomKind;

/// Names an epoch: one stretch of history that was not rewound. Opaque to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EpochId(pub String);

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event in its place. `payload` is the encoded `Event` without seq, time and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub seq: Seq,
    pub time: Micros,
    pub payload: Bytes,
}

/// Events that one commit added to one log, contiguous and in order.
#[derive(Clone, Debug)]
pub struct Appended {
    pub tenant_id: TenantId,
    pub log_id: LogId,
    pub room_id: RoomId,
    pub epoch: EpochId,
    pub events: Vec<StoredEvent>,
    /// Users whose access the events change: their list of rooms is out of date.
    pub users: Vec<UserId>,
}

/// Who numbers facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Membership,
    Room,
}

/// One change of a source, as one or more event payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub version: i64,
    pub events: Vec<Bytes>,
}

/// What a log is. Never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    pub room_id: RoomId,
    pub kind: RoomKind,
}

/// Facts of one source for one log, in contiguous ascending order of version.
#[derive(Clone, Debug)]
pub struct FactBatch {
    pub tenant_id: TenantId,
    pub log_id: LogId,
    pub source: Source,
    pub facts: Vec<Fact>,
    /// Needed by the fact that creates the log.
    pub identity: Option<LogIdentity>,
}
