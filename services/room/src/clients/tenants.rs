//! What operators decided for tenants, in the membership service.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::tenant_service_client::TenantServiceClient;
use parlance_rpc::{Below, Deadline, Internal, Peer, Reason, Transport};
use parlance_types::TenantId;

use crate::Error;

type Client = TenantServiceClient<Transport>;

/// The tenants, as membership knows them.
#[derive(Clone, Debug)]
pub(crate) struct Tenants(Peer<Client>);

/// What membership enforces of a version of a tenant's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TenantRules {
    pub(crate) version: i64,
    pub(crate) max_users: Option<i64>,
    pub(crate) silent_blocks: bool,
}

impl Tenants {
    pub(crate) fn new(membership: Transport, internal: Internal) -> Self {
        let passes = &[Reason::RateLimited, Reason::Overloaded];
        Self(Peer::new(Below::Membership, Client::new(membership), internal, passes))
    }

    /// Puts rules, unless later ones are known there. The version that holds then.
    pub(crate) async fn set_rules(
        &self,
        tenant_id: &TenantId,
        rules: TenantRules,
        deadline: Deadline,
    ) -> Result<i64, Error> {
        let TenantRules { version, max_users, silent_blocks } = rules;
        let rules = pb::SetTenantRulesRequest { version, max_users, silent_blocks };
        let set = |mut to: Client, request| async move { to.set_tenant_rules(request).await };
        Ok(self.0.call(tenant_id, None, deadline, rules, set).await?.version)
    }

    /// How many users a tenant has, if they are limited.
    pub(crate) async fn users(
        &self,
        tenant_id: &TenantId,
        deadline: Deadline,
    ) -> Result<Option<i64>, Error> {
        let get = |mut to: Client, request| async move { to.get_tenant_use(request).await };
        let request = pb::GetTenantUseRequest {};
        Ok(self.0.call(tenant_id, None, deadline, request, get).await?.users)
    }
}
