//! `TypingService`.

use parlance_proto::presence::v1 as pb;
use parlance_proto::presence::v1::typing_service_server::TypingService;
use tonic::{Request, Response, Status};

use super::{open, parse, user, within};
use crate::domain::Presences;

/// Lets users tell that they are typing.
#[derive(Clone, Debug)]
pub struct TypingGrpc {
    presences: Presences,
}

impl TypingGrpc {
    pub(crate) const fn new(presences: Presences) -> Self {
        Self { presences }
    }
}

#[tonic::async_trait]
impl TypingService for TypingGrpc {
    async fn set_typing(
        &self,
        request: Request<pb::SetTypingRequest>,
    ) -> Result<Response<pb::SetTypingResponse>, Status> {
        let (caller, left, request) = open(request)?;
        let room_id = parse::room_id(request.room_id)?;
        let user = user(&caller)?;
        let set = self.presences.set_typing(&user, &room_id, request.typing, left);
        within(left, set).await?;
        Ok(Response::new(pb::SetTypingResponse {}))
    }
}
