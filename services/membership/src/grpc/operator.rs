//! `OperatorService`: how the service is doing.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::operator_service_server::OperatorService;
use parlance_rpc::operator;
use tonic::{Request, Response, Status};

use super::{Due, Handler};
use crate::Error;

/// Serves `OperatorService`.
#[derive(Clone, Debug)]
pub struct Operators(pub(crate) Handler);

#[tonic::async_trait]
impl OperatorService for Operators {
    async fn get_counters(
        &self,
        request: Request<pb::GetCountersRequest>,
    ) -> Result<Response<pb::GetCountersResponse>, Status> {
        operator(&request)?;
        let report = async { self.0.outbox.report().await.map_err(Error::Store) };
        let outbox = self.0.read(Due::of(&request), report).await?;
        Ok(Response::new(pb::GetCountersResponse { outbox: Some(outbox) }))
    }
}
