//! `OperatorService`.

use parlance_outbox::Outbox;
use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::operator_service_server::OperatorService;
use parlance_rpc::{Deadline, Tasks, operator};
use tonic::{Request, Response, Status};

use crate::Error;

/// Serves `OperatorService`.
#[derive(Clone, Debug)]
pub struct OperatorGrpc {
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
        let report = async { Ok::<_, Error>(self.outbox.report().await?) };
        let outbox = Deadline::of(&request).reserve().bound(report).await?;
        Ok(Response::new(pb::GetCountersResponse {
            outbox: Some(outbox),
            tasks: self.tasks.counters(),
        }))
    }
}
