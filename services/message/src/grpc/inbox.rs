//! `InboxService`.

use std::sync::Arc;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::inbox_service_server::InboxService;
use parlance_rpc::{caller, remaining};
use tonic::{Request, Response, Status};

use super::{parse, reply, within};
use crate::domain::{Actor, Difference, Logs};
use crate::store::Unread;

/// Serves the unread counts of [`Logs`] to the users whose they are.
#[derive(Clone, Debug)]
pub struct InboxGrpc {
    logs: Arc<Logs>,
}

impl InboxGrpc {
    pub const fn new(logs: Arc<Logs>) -> Self {
        Self { logs }
    }
}

#[tonic::async_trait]
impl InboxService for InboxGrpc {
    async fn get_unread(
        &self,
        request: Request<pb::GetUnreadRequest>,
    ) -> Result<Response<pb::GetUnreadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let user = caller.require_user()?.clone();
        let rooms = parse::room_ids(request.into_inner().room_ids)?;
        let actor = Actor::from(caller);
        let (rooms, total) = within(deadline, self.logs.unread(&actor, &user, &rooms)).await?;
        let rooms = rooms.into_iter().map(room_unread).collect();
        reply(pb::GetUnreadResponse { rooms, total })
    }

    async fn recount_unread(
        &self,
        request: Request<pb::RecountUnreadRequest>,
    ) -> Result<Response<pb::RecountUnreadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let user = caller.require_user()?.clone();
        let found = within(deadline, self.logs.recount(&caller.into(), &user)).await?;
        reply(pb::RecountUnreadResponse {
            rooms_checked: i64::try_from(found.rooms).unwrap_or(i64::MAX),
            total: found.total,
            differences: found.differences.into_iter().map(difference).collect(),
        })
    }
}

fn room_unread(room: Unread) -> pb::RoomUnread {
    pb::RoomUnread {
        room_id: room.room_id.into_string(),
        unread: room.unread,
        marked_unread: room.marked_unread,
        read_seq: room.read,
    }
}

fn difference(difference: Difference) -> pb::UnreadDifference {
    pb::UnreadDifference {
        room_id: difference.room_id.into_string(),
        reported: difference.reported,
        counted: difference.counted,
    }
}
