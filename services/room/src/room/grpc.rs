//! `RoomService`.

mod decode;

pub(crate) use decode::{settings, wait, whole_seconds};

use std::collections::HashMap;
use std::slice;

use parlance_db::Stored;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::room_service_server::RoomService;
use parlance_requests::RequestKey;
use parlance_rpc::{Deadline, Reason, caller, fields};
use parlance_types::{RoomKind, fitting};
use prost::Message;
use tonic::{Request, Response, Status};

use super::repeat::{Asked, Changed};
use super::{Actor, Room, Rooms, codec};
use crate::Error;
use crate::wire::Callers;

/// How many members come with a room.
const MEMBERS: i32 = 100;

/// What an entry takes in an answer beside itself.
const ENTRY: usize = 8;

/// Serves [`Rooms`] over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct RoomGrpc {
    pub(crate) rooms: Rooms,
    pub(crate) callers: Callers,
}

/// The name of the attempt that a request is, if it has a request id.
fn key<T: Message>(
    rpc: &str,
    request: &Request<T>,
    request_id: impl Fn(&T) -> &str,
) -> Result<Option<RequestKey>, Status> {
    let message = request.get_ref();
    Ok(RequestKey::of(&caller(request)?, rpc, request_id(message), message)?)
}

/// The room of a reply, as it is now or as the first reply told it.
fn told(changed: Changed) -> Result<pb::Room, Error> {
    match changed {
        Changed::Now(room) => Ok(codec::room(&room)),
        Changed::Before { log_id, reply } => {
            let stored = Stored { table: "requests", row: log_id };
            Ok(stored.value("reply", pb::Room::decode(reply.as_slice()).ok())?)
        }
    }
}

impl RoomGrpc {
    /// The first members of each of the rooms, where it is a direct room or a group.
    async fn members(
        &self,
        actor: &Actor,
        rooms: &[Room],
        deadline: Deadline,
    ) -> Result<Vec<Option<pb::RoomMembers>>, Error> {
        let peopled = |room: &&Room| matches!(room.kind, RoomKind::Direct | RoomKind::Group);
        let mut log_ids: Vec<_> = rooms.iter().filter(peopled).map(|room| room.log_id).collect();
        // One that is named twice is one room.
        log_ids.sort_unstable();
        log_ids.dedup();
        if log_ids.is_empty() {
            return Ok(vec![None; rooms.len()]);
        }
        let members =
            self.rooms.rosters().first_members(actor, &log_ids, MEMBERS, deadline).await?;
        let members: HashMap<_, _> = log_ids.into_iter().zip(members).collect();
        let of = |room: &Room| {
            let members = members.get(&room.log_id)?;
            let (user_ids, total_size) = (members.user_ids.clone(), members.total_size);
            Some(pb::RoomMembers { room_id: room.room_id.to_string(), user_ids, total_size })
        };
        Ok(rooms.iter().map(of).collect())
    }
}

#[tonic::async_trait]
impl RoomService for RoomGrpc {
    async fn create_room(
        &self,
        request: Request<pb::CreateRoomRequest>,
    ) -> Result<Response<pb::CreateRoomResponse>, Status> {
        let key = key("CreateRoom", &request, |request| &request.request_id)?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let new = decode::new_room(&actor, request)?;
        let fields = new.fields.clone();
        let room = told(self.rooms.create(Asked { actor, request: key, deadline }, new).await?)?;
        let ignored_fields = fields.ignored(&room.fields);
        Ok(Response::new(pb::CreateRoomResponse { room: Some(room), ignored_fields }))
    }

    async fn get_or_create_direct_room(
        &self,
        request: Request<pb::GetOrCreateDirectRoomRequest>,
    ) -> Result<Response<pb::GetOrCreateDirectRoomResponse>, Status> {
        let (actor, deadline, request) = self.callers.open(request).await?;
        let wish = decode::direct_wish(&actor, request)?;
        let (room, created) = self.rooms.get_or_create_direct(actor, wish, deadline).await?;
        let room = Some(codec::room(&room));
        Ok(Response::new(pb::GetOrCreateDirectRoomResponse { room, created }))
    }

    async fn get_or_create_channel(
        &self,
        request: Request<pb::GetOrCreateChannelRequest>,
    ) -> Result<Response<pb::GetOrCreateChannelResponse>, Status> {
        let (actor, deadline, request) = self.callers.open(request).await?;
        let wish = decode::channel_wish(request)?;
        let fields = wish.fields.clone();
        let (room, created) = self.rooms.get_or_create_channel(actor, wish, deadline).await?;
        let ignored_fields = fields.not_allowed(&room.fields);
        let room = Some(codec::room(&room));
        Ok(Response::new(pb::GetOrCreateChannelResponse { room, created, ignored_fields }))
    }

    async fn get_room(
        &self,
        request: Request<pb::GetRoomRequest>,
    ) -> Result<Response<pb::GetRoomResponse>, Status> {
        let (actor, deadline, request) = self.callers.open(request).await?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let room = deadline.bound(self.rooms.get(&actor, &room_id, deadline)).await?;
        let mut members = Vec::new();
        if request.include_members {
            members = self.members(&actor, slice::from_ref(&room), deadline).await?;
        }
        let (room, members) = (Some(codec::room(&room)), members.pop().flatten());
        Ok(Response::new(pb::GetRoomResponse { room, members }))
    }

    async fn batch_get_rooms(
        &self,
        request: Request<pb::BatchGetRoomsRequest>,
    ) -> Result<Response<pb::BatchGetRoomsResponse>, Status> {
        let (actor, deadline, request) = self.callers.open(request).await?;
        let wished = request.include_members;
        let names = decode::names(request)?;
        let found = deadline.bound(self.rooms.batch_get(&actor, &names, deadline)).await?;
        let mut members = vec![None; found.len()];
        if wished {
            members = self.members(&actor, &found, deadline).await?;
        }
        let mut rooms: Vec<pb::Room> = found.iter().map(codec::room).collect();
        let sizes = rooms.iter().zip(&members).map(|(room, members)| {
            room.encoded_len() + members.as_ref().map_or(0, |members| members.encoded_len() + ENTRY)
        });
        let fit = fitting(sizes).min(rooms.len());
        let left_out_room_ids = rooms.drain(fit..).map(|room| room.room_id).collect();
        let members = members.into_iter().take(fit).flatten().collect();
        Ok(Response::new(pb::BatchGetRoomsResponse { rooms, left_out_room_ids, members }))
    }

    async fn update_room(
        &self,
        request: Request<pb::UpdateRoomRequest>,
    ) -> Result<Response<pb::UpdateRoomResponse>, Status> {
        let key = key("UpdateRoom", &request, |request| &request.request_id)?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let update = decode::update(&actor, request)?;
        let key = key.map(|key| key.in_room(update.room_id.clone()));
        let fields = update.change.fields().cloned().unwrap_or_default();
        let room = told(self.rooms.update(Asked { actor, request: key, deadline }, update).await?)?;
        let ignored_fields = fields.ignored(&room.fields);
        Ok(Response::new(pb::UpdateRoomResponse { room: Some(room), ignored_fields }))
    }

    async fn delete_room(
        &self,
        request: Request<pb::DeleteRoomRequest>,
    ) -> Result<Response<pb::DeleteRoomResponse>, Status> {
        let key = key("DeleteRoom", &request, |request| &request.request_id)?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        self.rooms.delete(Asked { actor, request: key, deadline }, room_id).await?;
        Ok(Response::new(pb::DeleteRoomResponse {}))
    }

    async fn batch_delete_rooms(
        &self,
        request: Request<pb::BatchDeleteRoomsRequest>,
    ) -> Result<Response<pb::BatchDeleteRoomsResponse>, Status> {
        let key = key("BatchDeleteRooms", &request, |request| &request.request_id)?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let room_ids = decode::deletions(request)?;
        let asked = Asked { actor, request: key, deadline };
        let deleted = self.rooms.batch_delete(&asked, room_ids).await;
        let deletions = deleted.into_iter().map(|(room_id, deleted)| pb::RoomDeletion {
            room_id: room_id.into_string(),
            refusal: deleted.err().map_or(Reason::Unspecified, |error| {
                Reason::of(&error.into()).unwrap_or(Reason::Internal)
            }) as i32,
        });
        Ok(Response::new(pb::BatchDeleteRoomsResponse { deletions: deletions.collect() }))
    }
}
