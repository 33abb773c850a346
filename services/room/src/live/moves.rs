//! Coming in, going elsewhere, leaving.

use parlance_rpc::Deadline;
use parlance_types::{LogId, Resource, RoomId, RoomKind};

use super::{Entry, LiveRooms};
use crate::Error;
use crate::clients::Taken;
use crate::room::{Actor, Room, State};

/// How often a room that ends or begins while it is being found is looked for.
const TRIES: usize = 4;

/// Where a device is now.
#[derive(Clone, Debug)]
pub(super) struct Entered {
    pub(super) room: Room,
    pub(super) taken: Taken,
    /// Whether this call created the room.
    pub(super) created: bool,
}

impl LiveRooms {
    /// Lets a device in, from nowhere or from another room.
    pub(super) async fn enter(
        &self,
        actor: Actor,
        entry: Entry,
        deadline: Deadline,
    ) -> Result<Entered, Error> {
        let live = self.clone();
        let work = async move { live.try_enter(&actor, entry, deadline).await };
        self.rooms.change(deadline, work).await
    }

    async fn try_enter(
        &self,
        actor: &Actor,
        mut entry: Entry,
        deadline: Deadline,
    ) -> Result<Entered, Error> {
        let mut mine = None;
        for _ in 0..TRIES {
            let found = match &entry.room_id {
                Some(room_id) => self.rooms.store().by_room_id(&actor.tenant_id, room_id).await?,
                None => None,
            };
            match found {
                Some(room) if room.kind != RoomKind::Live => {
                    let may_create = entry.create.is_some();
                    return Err(if may_create { Error::RoomIdTaken } else { Error::RoomNotFound });
                }
                Some(room) if room.state == State::Active => {
                    let Some(taken) = self.take_seat(actor, &room, &entry, deadline).await? else {
                        continue;
                    };
                    self.rooms.settle(&room, deadline).await?;
                    let created = mine == Some(room.log_id);
                    return Ok(Entered { room, taken, created });
                }
                Some(room) if room.state == State::Creating => {
                    match self.rooms.finish_creation(&room, deadline).await {
                        // Their room can never be; ours may.
                        Err(error) if error.is_final() => {}
                        finished => finished?,
                    }
                }
                Some(room) => self.rooms.finish_deletion(&room, deadline).await?,
                None => {
                    let Some(room) = self.create(actor, &entry, deadline).await? else { continue };
                    entry.room_id = Some(room.room_id);
                    mine = Some(room.log_id);
                }
            }
        }
        Err(Error::GivenUp)
    }

    /// Takes a seat in a room that is there. `None`: it has ended.
    async fn take_seat(
        &self,
        actor: &Actor,
        room: &Room,
        entry: &Entry,
        deadline: Deadline,
    ) -> Result<Option<Taken>, Error> {
        let device = &entry.device;
        let (taken, left) = match &entry.from {
            None => (self.seats.enter(actor, room, device, deadline).await, None),
            Some(from) => {
                let from = self.log_of(actor, from).await?;
                (self.seats.switch(actor, from, room.log_id, device, deadline).await, from)
            }
        };
        match taken {
            Ok(taken) => {
                let ended: Vec<_> = left.into_iter().filter(|_| taken.from_ended).collect();
                self.note(&ended).await?;
                Ok(Some(taken))
            }
            Err(Error::NoRoster) => {
                self.note(&[room.log_id]).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Creates the room that is missing, with the device in it. `None`: somebody else did.
    async fn create(
        &self,
        actor: &Actor,
        entry: &Entry,
        deadline: Deadline,
    ) -> Result<Option<Room>, Error> {
        let of_tenant = self.rooms.store().of_tenant(&actor.tenant_id).await?;
        if entry.from.is_some() || entry.create.is_some() {
            self.seats.check_limit(actor, of_tenant.rules, deadline).await?;
        }
        let mut new = entry.create.clone().ok_or(Error::RoomNotFound)?;
        if let Some(from) = &entry.from {
            let from = self.log_of(actor, from).await?.ok_or(Error::SeatNotFound)?;
            new.founding.come_from(from);
        }
        let room = self.rooms.plan(actor, &new, of_tenant)?;
        if !self.rooms.store().insert(&room, None).await? {
            return Ok(None);
        }
        self.rooms.finish_creation(&room, deadline).await?;
        Ok(Some(room))
    }

    /// Lets a device leave a room.
    pub(super) async fn leave(
        &self,
        actor: Actor,
        room_id: RoomId,
        resource: Resource,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let live = self.clone();
        let work = async move {
            let room = live.rooms.store().by_room_id(&actor.tenant_id, &room_id).await?;
            let Some(room) = room.filter(|room| room.kind == RoomKind::Live) else { return Ok(()) };
            match live.seats.leave(&actor, room.log_id, &resource, deadline).await {
                Ok(true) => live.note(&[room.log_id]).await,
                Ok(false) => live.rooms.settle(&room, deadline).await,
                // It is only beginning, without this device.
                Err(Error::NoRoster) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.rooms.change(deadline, work).await
    }

    /// Lets a device leave all its rooms, and returns them.
    pub(super) async fn leave_all(
        &self,
        actor: Actor,
        resource: Resource,
        deadline: Deadline,
    ) -> Result<Vec<String>, Error> {
        let live = self.clone();
        let work = async move {
            let left = live.seats.leave_all(&actor, &resource, deadline).await?;
            let ended: Vec<_> =
                left.iter().filter(|left| left.ended).map(|left| left.log_id).collect();
            live.note(&ended).await?;
            Ok(left.into_iter().map(|left| left.room_id).collect())
        };
        self.rooms.change(deadline, work).await
    }

    /// The log of the present life of a room, if there is one.
    async fn log_of(&self, actor: &Actor, room_id: &RoomId) -> Result<Option<LogId>, Error> {
        let room = self.rooms.store().by_room_id(&actor.tenant_id, room_id).await?;
        Ok(room.map(|room| room.log_id))
    }
}
