//! `MessageService`.

use std::sync::Arc;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::message_service_server::MessageService;
use parlance_rpc::{caller, remaining};
use tonic::{Request, Response, Status};

use super::{message, parse, reply, within};
use crate::codec::frames::epoch_token;
use crate::codec::timestamp;
use crate::domain::{Logs, NewContent, NewMessage};

/// Serves the messages of [`Logs`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct MessageGrpc {
    logs: Arc<Logs>,
}

impl MessageGrpc {
    pub const fn new(logs: Arc<Logs>) -> Self {
        Self { logs }
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
            request_id: parse::request_id(&caller, request.request_id)?,
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
            request_id: parse::request_id(&caller, request.request_id)?,
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
}
