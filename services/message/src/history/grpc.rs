//! `HistoryService`.

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::history_service_server::HistoryService;
use parlance_rpc::{Deadline, caller, fields};
use parlance_types::MessageId;
use tonic::{Request, Response, Status};

use super::History;
use crate::Error;

/// Serves [`History`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct HistoryGrpc {
    history: History,
}

impl HistoryGrpc {
    pub const fn new(history: History) -> Self {
        Self { history }
    }
}

#[tonic::async_trait]
impl HistoryService for HistoryGrpc {
    async fn clear_history(
        &self,
        request: Request<pb::ClearHistoryRequest>,
    ) -> Result<Response<pb::ClearHistoryResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let request = request.into_inner();
        let room_id = fields::room_id("room_id", request.room_id)?;
        let through = through(&request.through_message_id)?;
        let actor = caller.into();
        let clear = self.history.clear(&actor, &user, &room_id, through);
        let cleared_through_seq = deadline.bound(clear).await?;
        Ok(Response::new(pb::ClearHistoryResponse { cleared_through_seq }))
    }
}

/// The last event that is cleared; `None`: the head.
fn through(message_id: &str) -> Result<Option<MessageId>, Error> {
    if message_id.is_empty() {
        return Ok(None);
    }
    Ok(Some(fields::message_id("through_message_id", message_id)?))
}
