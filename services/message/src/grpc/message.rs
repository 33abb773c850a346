//! `MessageService`.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::message_service_server::MessageService;
use parlance_rpc::{Caller, caller, remaining};
use tonic::{Request, Response, Status};

use super::{message, parse, reply, within};
use crate::codec::frames::epoch_token;
use crate::codec::timestamp;
use crate::domain::{Actor, Difference, Logs, Mark, Marks, NewContent, NewMessage};
use crate::store::Unread;

/// Serves [`Logs`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct MessageGrpc {
    logs: Arc<Logs>,
}

impl MessageGrpc {
    pub const fn new(logs: Arc<Logs>) -> Self {
        Self { logs }
    }

    /// Moves the marks of the caller, who must be a user.
    async fn mark(
        &self,
        caller: Caller,
        deadline: Duration,
        room_id: String,
        mark: Mark,
    ) -> Result<Marks, Status> {
        let user = caller.require_user()?.clone();
        let room_id = parse::room_id(room_id)?;
        within(deadline, self.logs.mark(&caller.into(), &user, &room_id, mark)).await
    }
}

#[tonic::async_trait]
impl MessageService for MessageGrpc {
    async fn send_message(
        &self,
        request: Request<pb::SendMessageRequest>,
    ) -> Result<Response<pb::SendMessageResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let request = request.into_inner();
        let new = NewMessage {
            room_id: parse::room_id(request.room_id)?,
            content: parse::content(request.content)?,
            request_id: parse::request_id(request.request_id)?,
            uncounted: request.uncounted,
        };
        let sent = within(deadline, self.logs.send(&caller.into(), new)).await?;
        reply(pb::SendMessageResponse {
            message_id: sent.message_id.to_string(),
            seq: sent.message_id.seq,
            send_time: Some(timestamp(sent.time)),
            epoch: epoch_token(sent.message_id.log_id, &sent.epoch),
        })
    }

    async fn edit_message(
        &self,
        request: Request<pb::EditMessageRequest>,
    ) -> Result<Response<pb::EditMessageResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let request = request.into_inner();
        let new = NewContent {
            message_id: parse::message_id("message_id", &request.message_id)?,
            content: parse::new_content(request.content)?,
            request_id: parse::request_id(request.request_id)?,
        };
        let edited = within(deadline, self.logs.edit(&caller.into(), new)).await?;
        let edit_time = Some(timestamp(edited.time));
        reply(pb::EditMessageResponse { seq: edited.seq, edit_time })
    }

    async fn delete_message(
        &self,
        request: Request<pb::DeleteMessageRequest>,
    ) -> Result<Response<pb::DeleteMessageResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let message_id = parse::message_id("message_id", &request.get_ref().message_id)?;
        let seq = within(deadline, self.logs.delete(&caller.into(), message_id)).await?;
        reply(pb::DeleteMessageResponse { seq })
    }

    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<pb::GetMessageResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let message_id = parse::message_id("message_id", &request.get_ref().message_id)?;
        let (room_id, found) =
            within(deadline, self.logs.message(&caller.into(), message_id)).await?;
        reply(pb::GetMessageResponse { message: Some(message(&room_id, found)) })
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let listing = parse::listing(request.into_inner())?;
        if listing.mark_read {
            caller.require_user()?;
        }
        let page = within(deadline, self.logs.list(&caller.into(), &listing)).await?;
        let messages = page.messages.into_iter().map(|found| message(&listing.room_id, found));
        let (messages, next_page_token) = (messages.collect(), page.next_page_token);
        reply(pb::ListMessagesResponse { messages, next_page_token })
    }

    async fn mark_read(
        &self,
        request: Request<pb::MarkReadRequest>,
    ) -> Result<Response<pb::MarkReadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let request = request.into_inner();
        let mark = Mark::Read(parse::seq("seq", request.seq)?);
        let marks = self.mark(caller, deadline, request.room_id, mark).await?;
        reply(pb::MarkReadResponse { read_seq: marks.read })
    }

    async fn mark_delivered(
        &self,
        request: Request<pb::MarkDeliveredRequest>,
    ) -> Result<Response<pb::MarkDeliveredResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let request = request.into_inner();
        let mark = Mark::Delivered(parse::seq("seq", request.seq)?);
        let marks = self.mark(caller, deadline, request.room_id, mark).await?;
        reply(pb::MarkDeliveredResponse { delivered_seq: marks.delivered })
    }

    async fn mark_all_read(
        &self,
        request: Request<pb::MarkAllReadRequest>,
    ) -> Result<Response<pb::MarkAllReadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let room_id = request.into_inner().room_id;
        let marks = self.mark(caller, deadline, room_id, Mark::AllRead).await?;
        reply(pb::MarkAllReadResponse { read_seq: marks.read })
    }

    async fn mark_unread(
        &self,
        request: Request<pb::MarkUnreadRequest>,
    ) -> Result<Response<pb::MarkUnreadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, remaining(&request));
        let user = caller.require_user()?.clone();
        let room_id = parse::room_id(request.into_inner().room_id)?;
        within(deadline, self.logs.flag_unread(&caller.into(), &user, &room_id)).await?;
        reply(pb::MarkUnreadResponse {})
    }

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
