//! `HistoryService`.

use parlance_log::Body;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::history_service_server::HistoryService;
use parlance_rpc::{Deadline, caller, fields};
use parlance_types::{MessageId, Seq};
use tonic::{Request, Response, Status};

use super::{Cleared, History};
use crate::Error;

/// The event that clears a history for all.
pub(super) const fn cleared_event(through_seq: Seq) -> Body {
    Body::HistoryCleared(pb::HistoryCleared { through_seq })
}

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

    async fn clear_history_for_all(
        &self,
        request: Request<pb::ClearHistoryForAllRequest>,
    ) -> Result<Response<pb::ClearHistoryForAllResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let room_id = fields::room_id("room_id", request.room_id)?;
        let through = through(&request.through_message_id)?;
        let request_id = fields::request_id(&caller, request.request_id)?.into();
        let actor = caller.into();
        let clear = self.history.clear_for_all(&actor, &room_id, through, &request_id);
        let Cleared { seq, first } = deadline.bound(clear).await?;
        Ok(Response::new(pb::ClearHistoryForAllResponse { seq, first_seq: first }))
    }
}

/// The last event that is cleared; `None`: the head.
fn through(message_id: &str) -> Result<Option<MessageId>, Error> {
    if message_id.is_empty() {
        return Ok(None);
    }
    Ok(Some(fields::message_id("through_message_id", message_id)?))
}
