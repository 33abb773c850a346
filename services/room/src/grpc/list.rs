//! `RoomListService`: the message service orders and counts, this one adds names.

use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::room_list_service_server::RoomListService;
use parlance_types::{LogId, PageSize, Query};
use tonic::{Request, Response, Status};

use super::open;
use crate::clients::Logs;
use crate::domain::{Actor, Deadline, Rooms};
use crate::newcomers::Newcomers;
use crate::{Error, codec};

/// Serves a user's rooms over gRPC.
#[derive(Clone, Debug)]
pub struct RoomListGrpc {
    rooms: Rooms,
    logs: Logs,
    newcomers: Newcomers,
}

#[tonic::async_trait]
impl RoomListService for RoomListGrpc {
    async fn list_my_rooms(
        &self,
        request: Request<pb::ListMyRoomsRequest>,
    ) -> Result<Response<pb::ListMyRoomsResponse>, Status> {
        let (actor, deadline, request) = open(&self.newcomers, request).await?;
        let page = deadline.bound(self.list(&actor, &request, deadline)).await?;
        Ok(Response::new(page))
    }
}

impl RoomListGrpc {
    pub(crate) const fn new(rooms: Rooms, logs: Logs, newcomers: Newcomers) -> Self {
        Self { rooms, logs, newcomers }
    }

    async fn list(
        &self,
        actor: &Actor,
        request: &pb::ListMyRoomsRequest,
        deadline: Deadline,
    ) -> Result<pb::ListMyRoomsResponse, Error> {
        let user = actor.user.as_ref().ok_or(Error::UserRequired)?;
        if PageSize::parse(request.page_size).is_none() {
            return Err(Error::invalid("page_size", "must not be negative"));
        }
        let listed = if request.include_empty { "all" } else { "with messages" };
        let query = Query::new(&["ListMyRooms", actor.tenant_id.as_str(), user.as_str(), listed]);
        let token = query.position::<String>(&request.page_token);
        let token = token.map_err(|invalid| Error::invalid("page_token", invalid.to_string()))?;
        let page = log::ListUserLogsRequest {
            user_id: user.to_string(),
            page_size: request.page_size,
            page_token: token.unwrap_or_default(),
            skip_empty: !request.include_empty,
        };
        let page = self.logs.list(actor, page, deadline).await?;

        let log_ids = page.logs.iter().map(log_id).collect::<Result<Vec<_>, _>>()?;
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
            })
        });
        let next = Some(page.next_page_token).filter(|token| !token.is_empty());
        Ok(pb::ListMyRoomsResponse {
            rooms: named.collect(),
            next_page_token: next.map(|token| query.token(token)).unwrap_or_default(),
        })
    }
}

fn log_id(seen: &log::UserLog) -> Result<LogId, Error> {
    let strange = || {
        let status = tonic::Status::internal("the reply names a log that is not a UUID");
        Error::Misunderstood(Box::new(status))
    };
    seen.log_id.parse().map_err(|_| strange())
}
