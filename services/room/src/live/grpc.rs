//! `LiveRoomService`.

mod decode;

use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::live_room_service_server::LiveRoomService;
use parlance_rpc::fields;
use tonic::{Request, Response, Status};

use super::LiveRooms;
use super::moves::Entered;
use crate::room::codec;
use crate::wire::Callers;

/// Serves [`LiveRooms`] over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct LiveRoomGrpc {
    pub(crate) live: LiveRooms,
    pub(crate) callers: Callers,
}

#[tonic::async_trait]
impl LiveRoomService for LiveRoomGrpc {
    async fn enter_room(
        &self,
        request: Request<pb::EnterRoomRequest>,
    ) -> Result<Response<pb::EnterRoomResponse>, Status> {
        parlance_rpc::caller(&request)?.require_user()?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let entry = decode::entry(&actor, request)?;
        let Entered { room, taken, created } = self.live.enter(actor, entry, deadline).await?;
        let (room, membership) = (Some(codec::room(&room)), Some(taken.membership));
        Ok(Response::new(pb::EnterRoomResponse { room, membership, created }))
    }

    async fn leave_room(
        &self,
        request: Request<pb::LeaveRoomRequest>,
    ) -> Result<Response<pb::LeaveRoomResponse>, Status> {
        parlance_rpc::caller(&request)?.require_user()?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let resource = decode::resource(request.resource)?;
        self.live.leave(actor, room_id, resource, deadline).await?;
        Ok(Response::new(pb::LeaveRoomResponse {}))
    }

    async fn leave_all_rooms(
        &self,
        request: Request<pb::LeaveAllRoomsRequest>,
    ) -> Result<Response<pb::LeaveAllRoomsResponse>, Status> {
        parlance_rpc::caller(&request)?.require_user()?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let resource = decode::resource(request.resource)?;
        let room_ids = self.live.leave_all(actor, resource, deadline).await?;
        Ok(Response::new(pb::LeaveAllRoomsResponse { room_ids }))
    }

    async fn switch_room(
        &self,
        request: Request<pb::SwitchRoomRequest>,
    ) -> Result<Response<pb::SwitchRoomResponse>, Status> {
        parlance_rpc::caller(&request)?.require_user()?;
        let (actor, deadline, request) = self.callers.open(request).await?;
        let entry = decode::switch(&actor, request)?;
        let Entered { room, taken, created } = self.live.enter(actor, entry, deadline).await?;
        let (room, membership) = (Some(codec::room(&room)), Some(taken.membership));
        Ok(Response::new(pb::SwitchRoomResponse { room, membership, created }))
    }
}
