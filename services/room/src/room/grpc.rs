//! `RoomService`.

mod decode;

pub(crate) use decode::{settings, wait, whole_seconds};

use parlance_db::Stored;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::room_service_server::RoomService;
use parlance_requests::RequestKey;
use parlance_rpc::{Reason, caller, fields};
use parlance_types::fitting;
use prost::Message;
use tonic::{Request, Response, Status};

use super::repeat::{Asked, Changed};
use super::{Rooms, codec};
use crate::Error;
use crate::wire::Callers;

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
        Ok(Response::new(pb::GetRoomResponse { room: Some(codec::room(&room)) }))
    }

    async fn batch_get_rooms(
        &self,
        request: Request<pb::BatchGetRoomsRequest>,
    ) -> Result<Response<pb::BatchGetRoomsResponse>, Status> {
        let (actor, deadline, request) = self.callers.open(request).await?;
        let names = decode::names(request)?;
        let rooms = deadline.bound(self.rooms.batch_get(&actor, &names, deadline)).await?;
        let mut rooms: Vec<pb::Room> = rooms.iter().map(codec::room).collect();
        let fit = fitting(rooms.iter().map(Message::encoded_len)).min(rooms.len());
        let left_out_room_ids = rooms.drain(fit..).map(|room| room.room_id).collect();
        Ok(Response::new(pb::BatchGetRoomsResponse { rooms, left_out_room_ids }))
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
