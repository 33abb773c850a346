//! `FactService`: what other services of the suite put into logs.

use std::sync::Arc;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::fact_service_server::FactService;
use parlance_rpc::{internal, remaining};
use tonic::{Request, Response, Status};

use super::{parse, reply, within};
use crate::domain::Logs;

/// Lets other services of the suite put facts into [`Logs`].
#[derive(Clone, Debug)]
pub struct FactGrpc {
    logs: Arc<Logs>,
}

impl FactGrpc {
    pub const fn new(logs: Arc<Logs>) -> Self {
        Self { logs }
    }
}

#[tonic::async_trait]
impl FactService for FactGrpc {
    async fn apply_facts(
        &self,
        request: Request<pb::ApplyFactsRequest>,
    ) -> Result<Response<pb::ApplyFactsResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, remaining(&request));
        let batch = parse::facts(caller.tenant_id, request.into_inner())?;
        let applied = within(deadline, self.logs.apply(batch)).await?;
        let (closed, head) = (applied.closed, applied.head);
        reply(pb::ApplyFactsResponse { applied: applied.applied, head, closed })
    }
}
