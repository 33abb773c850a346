//! `MarkService`.

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::mark_service_server::MarkService;
use parlance_rpc::{Caller, caller, remaining};
use tonic::{Request, Response, Status};

use super::{parse, reply, within};
use crate::domain::{Logs, Mark, Marks};

/// Serves the marks of [`Logs`] to the users whose they are.
#[derive(Clone, Debug)]
pub struct MarkGrpc {
    logs: Arc<Logs>,
}

impl MarkGrpc {
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
impl MarkService for MarkGrpc {
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
}
