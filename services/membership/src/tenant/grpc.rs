//! `TenantService`: how the room service hands along what operators decided.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::tenant_service_server::TenantService;
use parlance_rpc::{Deadline, Violation, detached, fields, internal};
use tonic::{Request, Response, Status};

use super::TenantRules;
use crate::handler::Handler;

#[derive(Clone, Debug)]
pub struct TenantGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl TenantService for TenantGrpc {
    async fn set_tenant_rules(
        &self,
        request: Request<pb::SetTenantRulesRequest>,
    ) -> Result<Response<pb::SetTenantRulesResponse>, Status> {
        let tenant_id = internal(&request)?.tenant_id;
        let deadline = Deadline::of(&request).reserve();
        let rules = rules(&request.into_inner())?;
        let store = self.0.store.clone();
        let set = async move { store.set_tenant_rules(&tenant_id, rules).await };
        let version = deadline.bound(detached(set)).await?;
        Ok(Response::new(pb::SetTenantRulesResponse { version }))
    }

    async fn get_tenant_use(
        &self,
        request: Request<pb::GetTenantUseRequest>,
    ) -> Result<Response<pb::GetTenantUseResponse>, Status> {
        let tenant_id = internal(&request)?.tenant_id;
        let deadline = Deadline::of(&request).reserve();
        let users = deadline.bound(self.0.store.counted_users(&tenant_id)).await?;
        Ok(Response::new(pb::GetTenantUseResponse { users }))
    }
}

fn rules(request: &pb::SetTenantRulesRequest) -> Result<TenantRules, Violation> {
    let version = fields::at_least("version", request.version, 1)?;
    let max_users = request.max_users;
    let max_users = max_users.map(|most| fields::at_least("max_users", most, 0)).transpose()?;
    Ok(TenantRules { version, max_users, silent_blocks: request.silent_blocks })
}
