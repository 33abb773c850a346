//! Live rooms: entered by devices, and over once nobody is in.
//!
//! Who is in, and whether a room has ended, the membership service decides. It calls nobody
//! above it, so this service asks every second which rooms ended by themselves, and learns it
//! at once where a call meets one.

mod grpc;
mod moves;

use std::sync::Arc;
use std::time::Duration;

use parlance_rpc::{Deadline, Tasks};
use parlance_types::{LogId, Resource, RoomId, SessionId};

pub(crate) use grpc::LiveRoomGrpc;

use crate::Error;
use crate::clients::Seats;
use crate::room::{NewRoom, Rooms};

/// How often it is asked which rooms have ended.
const EVERY: Duration = Duration::from_secs(1);

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A device of the acting user, and its session.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) resource: Resource,
    pub(crate) session_id: SessionId,
}

/// Where a device wants to be.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// `None`: in a room that the call creates, by an id that the server makes.
    pub(crate) room_id: Option<RoomId>,
    /// The room that it leaves for that.
    pub(crate) from: Option<RoomId>,
    pub(crate) device: Device,
    /// The room to be created if it is missing.
    pub(crate) create: Option<NewRoom>,
}

/// The live rooms of all tenants. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct LiveRooms {
    rooms: Rooms,
    seats: Seats,
}

impl LiveRooms {
    pub(crate) const fn new(rooms: Rooms, seats: Seats) -> Self {
        Self { rooms, seats }
    }

    /// Asks from now on which rooms have ended, as one of the `tasks`. Any number of replicas
    /// may do it.
    pub(crate) fn run(&self, tasks: &Tasks) {
        let live = self.clone();
        tasks.every("ended live rooms", EVERY, Arc::default(), move || {
            let live = live.clone();
            async move { live.learn().await }
        });
    }

    async fn learn(&self) -> Result<(), Error> {
        let deadline = Deadline::within(PATIENCE);
        loop {
            let ended = self.seats.ended(deadline).await?;
            if ended.is_empty() {
                return Ok(());
            }
            self.note(&ended).await?;
            self.seats.acknowledge(&ended, deadline).await?;
        }
    }

    /// Notes that rooms have ended: their ids are free.
    async fn note(&self, ended: &[LogId]) -> Result<(), Error> {
        if ended.is_empty() {
            return Ok(());
        }
        self.rooms.store().note_ended(ended, self.rooms.now()).await
    }
}
