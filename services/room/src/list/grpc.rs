//! `RoomListService`.

use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::room_list_service_server::RoomListService;
use parlance_rpc::{Deadline, fields};
use parlance_types::Query;
use tonic::{Request, Response, Status};

use crate::Error;
use crate::clients::UserLogs;
use crate::room::{Actor, Rooms, codec};
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
        let page = deadline.bound(self.list(&actor, &request, deadline)).await?;
        Ok(Response::new(page))
    }
}

impl RoomListGrpc {
    async fn list(
        &self,
        actor: &Actor,
        request: &pb::ListMyRoomsRequest,
        deadline: Deadline,
    ) -> Result<pb::ListMyRoomsResponse, Error> {
        let user = actor.user.as_ref().ok_or(Error::UserRequired)?;
        fields::page_size(request.page_size)?;
        let listed = if request.include_empty { "all" } else { "with messages" };
        let query = Query::new(&["ListMyRooms", actor.tenant_id.as_str(), user.as_str(), listed]);
        let token = fields::page_token(query.position::<String>(&request.page_token))?;
        let asked = log::ListUserLogsRequest {
            user_id: user.to_string(),
            page_size: request.page_size,
            page_token: token.unwrap_or_default(),
            skip_empty: !request.include_empty,
        };
        let page = self.logs.list(actor, asked, deadline).await?;
        let log_ids = self.logs.ids(&page)?;
        let rooms = self.rooms.of_logs(actor, &log_ids).await?;
        let named = page.logs.into_iter().zip(log_ids).filter_map(|(seen, log_id)| {
            // A room that is being deleted is left out.
            let room = rooms.get(&log_id)?;
            Some(pb::MyRoom {
                room: Some(codec::room(room)),
                role: seen.role,
                unread: seen.unread,
                marked_unread: seen.marked_unread,
                last_message: seen.last_message,
                activity_time: seen.activity_time,
                cursor: seen.cursor,
            })
        });
        let next = Some(page.next_page_token).filter(|token| !token.is_empty());
        Ok(pb::ListMyRoomsResponse {
            rooms: named.collect(),
            next_page_token: next.map(|token| query.token(token)).unwrap_or_default(),
        })
    }
}
