//! `TenantSettingsService`.

use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::tenant_settings_service_server::TenantSettingsService;
use parlance_rpc::{Deadline, Violation, fields, operator};
use tonic::{Request, Response, Status};

use super::{Change, MAX_FIELDS, TenantSettings, Tenants};

/// How many paths a mask may have.
const MAX_PATHS: usize = 100;

/// Serves the settings of tenants to their operators.
#[derive(Clone, Debug)]
pub(crate) struct TenantSettingsGrpc {
    pub(crate) tenants: Tenants,
}

#[tonic::async_trait]
impl TenantSettingsService for TenantSettingsGrpc {
    async fn get_tenant_settings(
        &self,
        request: Request<pb::GetTenantSettingsRequest>,
    ) -> Result<Response<pb::GetTenantSettingsResponse>, Status> {
        let caller = operator(&request)?;
        let settings = Deadline::of(&request).bound(self.tenants.get(&caller.tenant_id)).await?;
        let settings = Some(encode(&settings));
        Ok(Response::new(pb::GetTenantSettingsResponse { settings }))
    }

    async fn set_tenant_settings(
        &self,
        request: Request<pb::SetTenantSettingsRequest>,
    ) -> Result<Response<pb::SetTenantSettingsResponse>, Status> {
        let caller = operator(&request)?;
        let deadline = Deadline::of(&request);
        let change = decode(request.into_inner())?;
        let settings = self.tenants.set(caller.tenant_id, change, deadline).await?;
        let settings = Some(encode(&settings));
        Ok(Response::new(pb::SetTenantSettingsResponse { settings }))
    }
}

fn decode(request: pb::SetTenantSettingsRequest) -> Result<Change, Violation> {
    let settings = request.settings.ok_or_else(|| Violation::new("settings", "is required"))?;
    let mask = request.update_mask.unwrap_or_default().paths;
    fields::length("update_mask", mask.len(), 1..=MAX_PATHS)?;
    if mask.iter().any(|path| path != "allowed_fields") {
        return Err(Violation::new("update_mask", "must name settings only"));
    }
    let at = "settings.allowed_fields";
    let names = fields::each(at, settings.allowed_fields, 0..=MAX_FIELDS, |field, name| {
        if (1..=64).contains(&name.len()) && !name.contains(char::is_control) {
            return Ok(name);
        }
        Err(Violation::new(field, "must have 1 to 64 bytes and no control characters"))
    })?;
    fields::once(names.iter(), |entry| format!("{at}[{entry}]"))?;
    Ok(Change { allowed_fields: Some(names) })
}

fn encode(settings: &TenantSettings) -> pb::TenantSettings {
    pb::TenantSettings { allowed_fields: settings.names() }
}
