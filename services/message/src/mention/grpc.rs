//! `MentionService`.

use parlance_proto::message::v1 as pb;
use parlance_proto::stored;
use parlance_proto::stored::mention_service_server::MentionService;
use parlance_rpc::{Deadline, caller, fields};
use tonic::{Request, Response, Status};

use super::{Mentioned, Mentioning};
use crate::message::grpc::message;

/// Serves [`Mentioning`] to the users who are mentioned.
#[derive(Clone, Debug)]
pub struct MentionGrpc {
    mentioning: Mentioning,
}

impl MentionGrpc {
    pub const fn new(mentioning: Mentioning) -> Self {
        Self { mentioning }
    }
}

#[tonic::async_trait]
impl MentionService for MentionGrpc {
    async fn list_mentions(
        &self,
        request: Request<pb::ListMentionsRequest>,
    ) -> Result<Response<stored::ListMentionsResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let request = request.into_inner();
        let room_id = fields::room_id("room_id", request.room_id)?;
        let size = fields::page_size(request.page_size)?;
        let actor = caller.into();
        let list = self.mentioning.list(&actor, &user, &room_id, size, &request.page_token);
        let Mentioned { messages, next_page_token } = deadline.bound(list).await?;
        let messages = messages.into_iter().map(|found| message(&room_id, found)).collect();
        Ok(Response::new(stored::ListMentionsResponse { messages, next_page_token }))
    }
}
