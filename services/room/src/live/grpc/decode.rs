//! Requests from the wire, made into values that cannot be wrong.

use parlance_proto::room::v1 as pb;
use parlance_rpc::{Violation, fields};
use parlance_types::{Resource, RoomKind, SessionId};

use crate::Error;
use crate::live::{Device, Entry};
use crate::room::{
    Actor, Description, Founding, LiveFounding, Name, NewRoom, Picture, settings, wait,
};

pub(super) fn resource(text: String) -> Result<Resource, Violation> {
    fields::id("resource", Resource::parse(text))
}

fn device(name: String, session_id: String) -> Result<Device, Violation> {
    let resource = resource(name)?;
    let session_id = fields::id("session_id", SessionId::parse(session_id))?;
    Ok(Device { resource, session_id })
}

pub(super) fn entry(actor: &Actor, request: pb::EnterRoomRequest) -> Result<Entry, Error> {
    let room_id = fields::given(request.room_id);
    let room_id = room_id.map(|id| fields::room_id("room_id", id)).transpose()?;
    if room_id.is_none() && !request.create_if_missing {
        let rule = "must name a room, unless the call creates one";
        return Err(Error::invalid("room_id", rule));
    }
    let device = device(request.resource, request.session_id)?;
    let new = NewRoom { room_id: room_id.clone(), ..new_room(actor, &device, request.room)? };
    Ok(Entry { room_id, from: None, device, create: request.create_if_missing.then_some(new) })
}

pub(super) fn switch(actor: &Actor, request: pb::SwitchRoomRequest) -> Result<Entry, Error> {
    let from = fields::room_id("from_room_id", request.from_room_id)?;
    let to = fields::room_id("to_room_id", request.to_room_id)?;
    if from == to {
        return Err(Error::invalid("to_room_id", "must be another room than the one to leave"));
    }
    let device = device(request.resource, request.session_id)?;
    let new = NewRoom { room_id: Some(to.clone()), ..new_room(actor, &device, request.room)? };
    let create = request.create_if_missing.then_some(new);
    Ok(Entry { room_id: Some(to), from: Some(from), device, create })
}

/// A room that the acting user begins with a device. What is said of it is looked at whether
/// or not it is created.
fn new_room(
    actor: &Actor,
    device: &Device,
    room: Option<pb::NewLiveRoom>,
) -> Result<NewRoom, Error> {
    let room = room.unwrap_or_default();
    let live = LiveFounding {
        destroy_delay: wait("room.destroy_delay", room.destroy_delay)?.unwrap_or_default(),
        single_device: room.single_device,
        empty_timeout: 0,
        seat: None,
    };
    let live = live.seated(&device.resource, &device.session_id);
    let founding = Founding::of_live(actor.user.clone(), live);
    Ok(NewRoom {
        name: Name::parse("room.name", room.name)?,
        picture: Picture::parse("room.picture", room.picture)?,
        description: Description::parse("room.description", room.description)?,
        metadata: fields::pairs("room.metadata", room.metadata)?,
        settings: settings("room.settings", &room.settings.unwrap_or_default())?
            .resolve("room.settings", RoomKind::Live)?,
        ..NewRoom::bare(RoomKind::Live, founding)
    })
}
