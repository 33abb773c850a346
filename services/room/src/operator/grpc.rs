//! `OperatorService`.

use parlance_outbox::Outbox;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::operator_service_server::OperatorService;
use parlance_rpc::{Deadline, Tasks, operator};
use tonic::{Request, Response, Status};

use crate::Error;

/// Shows what waits in the outbox, and what the process does beside the calls.
#[derive(Clone, Debug)]
pub(crate) struct OperatorGrpc {
    pub(crate) outbox: Outbox,
    pub(crate) tasks: Tasks,
}

#[tonic::async_trait]
impl OperatorService for OperatorGrpc {
    async fn get_counters(
        &self,
        request: Request<pb::GetCountersRequest>,
    ) -> Result<Response<pb::GetCountersResponse>, Status> {
        operator(&request)?;
        let report = async { self.outbox.report().await.map_err(Error::Store) };
        let outbox = Deadline::of(&request).bound(report).await?;
        Ok(Response::new(pb::GetCountersResponse {
            outbox: Some(outbox),
            tasks: self.tasks.counters(),
        }))
    }
}
