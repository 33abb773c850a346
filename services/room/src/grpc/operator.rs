//! `OperatorService`: how the service is doing.

use parlance_outbox::Outbox;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::operator_service_server::OperatorService;
use parlance_rpc::{operator, remaining};
use tonic::{Request, Response, Status};

use crate::Error;
use crate::domain::Deadline;

/// Shows what waits in the outbox.
#[derive(Clone, Debug)]
pub struct OperatorGrpc(pub(crate) Outbox);

#[tonic::async_trait]
impl OperatorService for OperatorGrpc {
    async fn get_counters(
        &self,
        request: Request<pb::GetCountersRequest>,
    ) -> Result<Response<pb::GetCountersResponse>, Status> {
        operator(&request)?;
        let report = async { self.0.report().await.map_err(Error::from) };
        let outbox = Deadline::within(remaining(&request)).bound(report).await?;
        Ok(Response::new(pb::GetCountersResponse { outbox: Some(outbox) }))
    }
}
