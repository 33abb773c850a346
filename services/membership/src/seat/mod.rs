//! Seats: which devices are in live rooms, and what becomes of a room that nobody is in.

use parlance_types::{LogId, Micros, Resource, RoomId, SessionId, TenantId, UserId};

use crate::roster::{Cause, Device, Membership};

pub(crate) mod grpc;
mod store;

/// The most seats that a page of all seats has.
const MAX_SEATS: usize = 1000;

/// What moves from one live room to another.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    /// `None`: it is not known any more.
    pub(crate) from: Option<LogId>,
    pub(crate) to: LogId,
    pub(crate) device: Device,
}

/// A user whose device has a seat.
#[derive(Clone, Debug)]
pub(crate) struct Seated {
    pub(crate) membership: Membership,
    /// Other devices of theirs that lost their seats to it.
    pub(crate) replaced: Vec<Resource>,
}

/// What came of a switch.
#[derive(Clone, Debug)]
pub(crate) struct Switched {
    pub(crate) seated: Seated,
    /// Whether the room that was left has ended.
    pub(crate) from_ended: bool,
}

/// A room that a device has left.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(crate) log_id: LogId,
    pub(crate) room_id: RoomId,
    /// Whether it has ended.
    pub(crate) ended: bool,
}

/// Sessions that have ended.
#[derive(Clone, Debug)]
pub(crate) struct Endings {
    pub(crate) tenant_id: TenantId,
    pub(crate) sessions: Vec<(UserId, Device)>,
    pub(crate) cause: Cause,
}

/// A seat as stored.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) tenant_id: TenantId,
    pub(crate) at: Place,
    pub(crate) session_id: SessionId,
    pub(crate) entered: Micros,
}

/// Which seat it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) log_id: LogId,
    pub(crate) user_id: UserId,
    pub(crate) resource: Resource,
}

impl Place {
    /// Before all seats.
    fn first() -> Self {
        let log_id = LogId(uuid::Uuid::nil());
        Self { log_id, user_id: UserId::new(""), resource: Resource::new("") }
    }
}
