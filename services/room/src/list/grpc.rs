//! `RoomListService`.

use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::room_list_service_server::RoomListService;
use parlance_rpc::{Deadline, fields};
use parlance_types::{Query, fitting};
use prost::Message;
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
        let mut asked = log::ListUserLogsRequest {
            user_id: user.to_string(),
            page_size: request.page_size,
            page_token: token.unwrap_or_default(),
            skip_empty: !request.include_empty,
        };
        loop {
            let mut page = self.logs.list(actor, asked.clone(), deadline).await?;
            let logs = std::mem::take(&mut page.logs);
            let rooms = self.named(actor, logs).await?;
            // What each adds to the answer; a room that is being deleted nothing.
            let size = |room: &Option<pb::MyRoom>| room.as_ref().map_or(0, Message::encoded_len);
            let fit = fitting(rooms.iter().map(size));
            if fit < rooms.len() {
                // The token after so many is known to the service that has the logs.
                asked.page_size = i32::try_from(fit).unwrap_or(i32::MAX);
                continue;
            }
            let next = Some(page.next_page_token).filter(|token| !token.is_empty());
            return Ok(pb::ListMyRoomsResponse {
                rooms: rooms.into_iter().flatten().collect(),
                next_page_token: next.map(|token| query.token(token)).unwrap_or_default(),
            });
        }
    }

    /// What rooms are called, log by log; a room that is being deleted is left out.
    async fn named(
        &self,
        actor: &Actor,
        logs: Vec<log::UserLog>,
    ) -> Result<Vec<Option<pb::MyRoom>>, Error> {
        let log_ids = self.logs.ids(&logs)?;
        let rooms = self.rooms.of_logs(actor, &log_ids).await?;
        let named = logs.into_iter().zip(log_ids).map(|(seen, log_id)| {
            Some(pb::MyRoom {
                room: Some(codec::room(rooms.get(&log_id)?)),
                role: seen.role,
                unread: seen.unread,
                marked_unread: seen.marked_unread,
                last_message: seen.last_message,
                activity_time: seen.activity_time,
                cursor: seen.cursor,
            })
        });
        Ok(named.collect())
    }
}
