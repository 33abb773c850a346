//! `ThreadService`.

use parlance_proto::message::v1 as pb;
use parlance_proto::stored;
use parlance_proto::stored::thread_service_server::ThreadService;
use parlance_rpc::{Deadline, caller, fields};
use tonic::{Request, Response, Status};

use super::{Replies, Threads};
use crate::message::grpc::message;

/// Serves [`Threads`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct ThreadGrpc {
    threads: Threads,
}

impl ThreadGrpc {
    pub const fn new(threads: Threads) -> Self {
        Self { threads }
    }
}

#[tonic::async_trait]
impl ThreadService for ThreadGrpc {
    async fn list_replies(
        &self,
        request: Request<pb::ListRepliesRequest>,
    ) -> Result<Response<stored::ListRepliesResponse>, Status> {
        let deadline = Deadline::of(&request);
        let actor = caller(&request)?.into();
        let request = request.into_inner();
        let root = fields::message_id("message_id", &request.message_id)?;
        let size = fields::page_size(request.page_size)?;
        let replies = self.threads.replies(&actor, root, size, &request.page_token);
        let Replies { room_id, replies, next_page_token } = deadline.bound(replies).await?;
        let replies = replies.into_iter().map(|reply| message(&room_id, reply)).collect();
        Ok(Response::new(stored::ListRepliesResponse { replies, next_page_token }))
    }
}
