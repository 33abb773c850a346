//! The gRPC face of the service: decode, call the domain, encode.

mod decode;
mod list;
mod operator;
mod status;

pub use operator::OperatorGrpc;

use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::room_service_server::RoomService;
use parlance_rpc::remaining;
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::clients::Logs;
use crate::domain::{Actor, Changed, Deadline, Rooms};
use crate::newcomers::Newcomers;
use crate::{Error, codec};

/// Serves [`Rooms`] over gRPC.
#[derive(Clone, Debug)]
pub struct RoomGrpc {
    rooms: Rooms,
    logs: Logs,
    newcomers: Newcomers,
}

impl RoomGrpc {
    pub(crate) const fn new(rooms: Rooms, logs: Logs, newcomers: Newcomers) -> Self {
        Self { rooms, logs, newcomers }
    }

    /// Who calls, until when, and what. A user comes into being at the first call.
    async fn open<T>(&self, request: Request<T>) -> Result<(Actor, Deadline, T), Status> {
        let caller = parlance_rpc::caller(&request)?;
        let user = caller.user().cloned();
        let actor = Actor { tenant_id: caller.tenant_id, user };
        let deadline = Deadline::within(remaining(&request));
        self.newcomers.welcome(&actor, deadline).await;
        Ok((actor, deadline, request.into_inner()))
    }
}

/// The room of a reply, as it is now or as the first reply told it.
fn told(changed: Changed) -> Result<pb::Room, Error> {
    match changed {
        Changed::Now(room) => Ok(codec::room(&room)),
        Changed::Before(reply) => pb::Room::decode(reply.as_slice()).map_err(|_| {
            Error::Impossible { table: "requests", column: "room", row: "a repeat".to_owned() }
        }),
    }
}

#[tonic::async_trait]
impl RoomService for RoomGrpc {
    async fn create_room(
        &self,
        request: Request<pb::CreateRoomRequest>,
    ) -> Result<Response<pb::CreateRoomResponse>, Status> {
        let (actor, deadline, request) = self.open(request).await?;
        let repeatable = decode::repeatable("CreateRoom", &request.request_id, &request)?;
        let new = decode::new_room(&actor, request)?;
        let room = told(self.rooms.create(actor, new, repeatable, deadline).await?)?;
        Ok(Response::new(pb::CreateRoomResponse { room: Some(room) }))
    }

    async fn get_or_create_direct_room(
        &self,
        request: Request<pb::GetOrCreateDirectRoomRequest>,
    ) -> Result<Response<pb::GetOrCreateDirectRoomResponse>, Status> {
        let (actor, deadline, request) = self.open(request).await?;
        let wish = decode::direct_wish(&actor, request)?;
        let (room, created) = self.rooms.get_or_create_direct(actor, wish, deadline).await?;
        let room = Some(codec::room(&room));
        Ok(Response::new(pb::GetOrCreateDirectRoomResponse { room, created }))
    }

    async fn get_or_create_channel(
        &self,
        request: Request<pb::GetOrCreateChannelRequest>,
    ) -> Result<Response<pb::GetOrCreateChannelResponse>, Status> {
        let (actor, deadline, request) = self.open(request).await?;
        let wish = decode::channel_wish(request)?;
        let (room, created) = self.rooms.get_or_create_channel(actor, wish, deadline).await?;
        let room = Some(codec::room(&room));
        Ok(Response::new(pb::GetOrCreateChannelResponse { room, created }))
    }

    async fn get_room(
        &self,
        request: Request<pb::GetRoomRequest>,
    ) -> Result<Response<pb::GetRoomResponse>, Status> {
        let (actor, deadline, request) = self.open(request).await?;
        let room_id = decode::room_id("room_id", request.room_id)?;
        let room = deadline.bound(self.rooms.get(&actor, &room_id, deadline)).await?;
        Ok(Response::new(pb::GetRoomResponse { room: Some(codec::room(&room)) }))
    }

    async fn batch_get_rooms(
        &self,
        request: Request<pb::BatchGetRoomsRequest>,
    ) -> Result<Response<pb::BatchGetRoomsResponse>, Status> {
        let (actor, deadline, request) = self.open(request).await?;
        let names = decode::names(request)?;
        let rooms = deadline.bound(self.rooms.batch_get(&actor, &names, deadline)).await?;
        let rooms = rooms.iter().map(codec::room).collect();
        Ok(Response::new(pb::BatchGetRoomsResponse { rooms }))
    }

    async fn list_my_rooms(
        &self,
        request: Request<pb::ListMyRoomsRequest>,
    ) -> Result<Response<pb::ListMyRoomsResponse>, Status> {
        let (actor, deadline, request) = self.open(request).await?;
        let page = deadline.bound(self.list(&actor, &request, deadline)).await?;
        Ok(Response::new(page))
    }

    async fn update_room(
        &self,
        request: Request<pb::UpdateRoomRequest>,
    ) -> Result<Response<pb::UpdateRoomResponse>, Status> {
        let (actor, deadline, request) = self.open(request).await?;
        let repeatable = decode::repeatable("UpdateRoom", &request.request_id, &request)?;
        let update = decode::update(request)?;
        let room = told(self.rooms.update(actor, update, repeatable, deadline).await?)?;
        Ok(Response::new(pb::UpdateRoomResponse { room: Some(room) }))
    }

    async fn delete_room(
        &self,
        request: Request<pb::DeleteRoomRequest>,
    ) -> Result<Response<pb::DeleteRoomResponse>, Status> {
        let (actor, deadline, request) = self.open(request).await?;
        let repeatable = decode::repeatable("DeleteRoom", &request.request_id, &request)?;
        let room_id = decode::room_id("room_id", request.room_id)?;
        self.rooms.delete(actor, room_id, repeatable, deadline).await?;
        Ok(Response::new(pb::DeleteRoomResponse {}))
    }
}
