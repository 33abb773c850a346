//! `RoomListService`.

mod channels;
mod decode;
mod left;
mod pages;

use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::room_list_service_server::RoomListService;
use tonic::{Request, Response, Status};

use crate::clients::UserLogs;
use crate::room::Rooms;
use crate::wire::Callers;

/// Serves a user's rooms over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct RoomListGrpc {
    pub(crate) rooms: Rooms,
    pub(crate) logs: UserLogs,
    pub(crate) callers: Callers,
}

#[tonic::async_trait]
impl RoomListService for RoomListGrpc {
    async fn list_my_rooms(
        &self,
        request: Request<pb::ListMyRoomsRequest>,
    ) -> Result<Response<pb::ListMyRoomsResponse>, Status> {
        let (actor, deadline, request) = self.callers.open(request).await?;
        let wish = decode::wish(&actor, request)?;
        let page = deadline.bound(self.my_rooms(&actor, wish, deadline)).await?;
        Ok(Response::new(page))
    }

    async fn list_channels(
        &self,
        request: Request<pb::ListChannelsRequest>,
    ) -> Result<Response<pb::ListChannelsResponse>, Status> {
        let (actor, deadline, request) = self.callers.open(request).await?;
        let wish = decode::channels(&actor, request)?;
        let page = deadline.bound(self.channels(&actor, &wish)).await?;
        Ok(Response::new(page))
    }
}
