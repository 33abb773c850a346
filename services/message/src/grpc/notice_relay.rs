//! `NoticeRelayService`: what other services of the suite tell the streams of a room.

use std::sync::Arc;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::notice_relay_service_server::NoticeRelayService;
use parlance_rpc::{internal, remaining};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{parse, reply, within};
use crate::domain::{Actor, Logs};
use crate::stream::{Hub, Typing};

/// Hands notices of other services to the streams of their room.
#[derive(Clone, Debug)]
pub struct NoticeRelayGrpc {
    logs: Arc<Logs>,
    hub: Hub,
}

impl NoticeRelayGrpc {
    pub const fn new(logs: Arc<Logs>, hub: Hub) -> Self {
        Self { logs, hub }
    }
}

#[tonic::async_trait]
impl NoticeRelayService for NoticeRelayGrpc {
    async fn publish_notice(
        &self,
        request: Request<pb::PublishNoticeRequest>,
    ) -> Result<Response<pb::PublishNoticeResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, remaining(&request));
        let request = request.into_inner();
        let room_id = parse::room_id(request.room_id)?;
        let user_id = parse::user_id(request.user_id)?;
        let lasts = parse::typing(request.notice)?;
        let actor = Actor { tenant_id: caller.tenant_id, user: Some(user_id.clone()) };
        let log_id = within(deadline, self.logs.of_member(&actor, &room_id)).await?;
        let until = lasts.map(|lasts| Instant::now() + lasts);
        self.hub.typing(log_id, &Typing { user_id, until });
        reply(pb::PublishNoticeResponse {})
    }
}
