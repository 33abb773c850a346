//! `TypingService`.

use std::time::Duration;

use parlance_proto::presence::v1 as pb;
use parlance_proto::presence::v1::typing_service_server::TypingService;
use parlance_rpc::{Deadline, caller, fields};
use tonic::{Request, Response, Status};

use super::Typing;
use crate::wire::user;

/// Lets users tell that they are typing.
#[derive(Clone, Debug)]
pub(crate) struct TypingGrpc(pub(crate) Typing);

#[tonic::async_trait]
impl TypingService for TypingGrpc {
    async fn set_typing(
        &self,
        request: Request<pb::SetTypingRequest>,
    ) -> Result<Response<pb::SetTypingResponse>, Status> {
        let deadline = Deadline::of(&request);
        let user = user(&caller(&request)?)?;
        let request = request.into_inner();
        let room_id = fields::room_id("room_id", request.room_id)?;
        let Typing { notices, lasts } = &self.0;
        let lasts = if request.typing { *lasts } else { Duration::ZERO };
        deadline.bound(notices.typing(&user, &room_id, lasts, deadline)).await?;
        Ok(Response::new(pb::SetTypingResponse {}))
    }
}
