//! `InboxService` and `UserLogService`.

use parlance_follow::frames::stands;
use parlance_log::codec::{role_to_pb, timestamp};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::inbox_service_server::InboxService;
use parlance_proto::stored;
use parlance_proto::stored::user_log_service_server::UserLogService;
use parlance_rpc::{Deadline, caller, fields, internal, violation};
use parlance_types::{Query, RoomId, fitting};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{Inbox, Recount, Unread, UserLog, Walk};
use crate::message::grpc::message;

/// How many rooms one call may ask about.
const MAX_ROOMS: usize = 100;

/// Serves unread counts to the users whose they are.
#[derive(Clone, Debug)]
pub struct InboxGrpc {
    inbox: Inbox,
}

impl InboxGrpc {
    pub const fn new(inbox: Inbox) -> Self {
        Self { inbox }
    }
}

#[tonic::async_trait]
impl InboxService for InboxGrpc {
    async fn get_unread(
        &self,
        request: Request<pb::GetUnreadRequest>,
    ) -> Result<Response<pb::GetUnreadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let request = request.into_inner();
        let rooms = fields::ids("room_ids", request.room_ids, 0..=MAX_ROOMS, RoomId::parse)?;
        let unread = self.inbox.unread(&caller.tenant_id, &user, &rooms, request.these_only);
        let (rooms, total) = deadline.bound(unread).await?;
        let rooms = rooms.into_iter().map(room_unread).collect();
        Ok(Response::new(pb::GetUnreadResponse { rooms, total }))
    }

    async fn recount_unread(
        &self,
        request: Request<pb::RecountUnreadRequest>,
    ) -> Result<Response<pb::RecountUnreadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let found = deadline.bound(self.inbox.recount(&caller.tenant_id, &user)).await?;
        let mut differences: Vec<_> = found.differences.into_iter().map(difference).collect();
        differences.truncate(fitting(differences.iter().map(Message::encoded_len)));
        Ok(Response::new(pb::RecountUnreadResponse {
            rooms_checked: i64::try_from(found.rooms).unwrap_or(i64::MAX),
            total: found.total,
            differences,
        }))
    }
}

/// Serves the logs of a user to the other services of the suite.
#[derive(Clone, Debug)]
pub struct UserLogGrpc {
    inbox: Inbox,
}

impl UserLogGrpc {
    pub const fn new(inbox: Inbox) -> Self {
        Self { inbox }
    }
}

#[tonic::async_trait]
impl UserLogService for UserLogGrpc {
    async fn list_user_logs(
        &self,
        request: Request<pb::ListUserLogsRequest>,
    ) -> Result<Response<stored::ListUserLogsResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let user = fields::user_id("user_id", request.user_id)?;
        let size = fields::page_size(request.page_size)?.get();
        let skip_empty = request.skip_empty;
        let query = Query::new(&[
            "ListUserLogs",
            caller.tenant_id.as_str(),
            user.as_str(),
            if skip_empty { "skip_empty" } else { "" },
        ]);
        let walk = query.position::<Walk>(&request.page_token);
        let walk = walk.map_err(|invalid| violation("page_token", invalid.to_string()))?;

        let page = self.inbox.logs(&caller.tenant_id, &user, walk, skip_empty, size);
        let (logs, next) = deadline.bound(page).await?;
        let next_page_token = next.map(|walk| query.token(walk)).unwrap_or_default();
        let logs = logs.into_iter().map(user_log).collect();
        Ok(Response::new(stored::ListUserLogsResponse { logs, next_page_token }))
    }
}

fn room_unread(room: Unread) -> pb::RoomUnread {
    pb::RoomUnread {
        room_id: room.room_id.into_string(),
        unread: room.unread,
        marked_unread: room.marked_unread,
        read_seq: room.read,
        cursor: Some(stands(&room.stands)),
    }
}

fn difference(difference: Recount) -> pb::UnreadDifference {
    pb::UnreadDifference {
        room_id: difference.room_id.into_string(),
        reported: difference.reported,
        counted: difference.counted,
    }
}

fn user_log(log: UserLog) -> stored::UserLog {
    let UserLog { unread, role, last_message, activity } = log;
    stored::UserLog {
        log_id: unread.log_id.to_string(),
        role: role_to_pb(role).into(),
        unread: unread.unread,
        marked_unread: unread.marked_unread,
        last_message: last_message.map(|last| message(&unread.room_id, last)),
        activity_time: Some(timestamp(activity)),
        read_seq: unread.read,
        head: unread.stands.seq,
        cursor: Some(stands(&unread.stands)),
        room_id: unread.room_id.into_string(),
    }
}
