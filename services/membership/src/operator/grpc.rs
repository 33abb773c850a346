//! `OperatorService`.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::operator_service_server::OperatorService;
use parlance_rpc::{Deadline, operator};
use tonic::{Request, Response, Status};

use crate::Error;
use crate::handler::Handler;

/// Serves `OperatorService`.
#[derive(Clone, Debug)]
pub struct OperatorGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl OperatorService for OperatorGrpc {
    async fn get_counters(
        &self,
        request: Request<pb::GetCountersRequest>,
    ) -> Result<Response<pb::GetCountersResponse>, Status> {
        operator(&request)?;
        let report = async { Ok::<_, Error>(self.0.outbox.report().await?) };
        let outbox = Deadline::of(&request).reserve().bound(report).await?;
        Ok(Response::new(pb::GetCountersResponse { outbox: Some(outbox) }))
    }
}
