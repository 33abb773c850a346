//! `TenantSettingsService`.

use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::tenant_settings_service_server::TenantSettingsService;
use parlance_rpc::{Deadline, Violation, fields, operator};
use parlance_types::{FilterWord, InvalidFilterWord, MAX_FILTER_WORDS};
use tonic::{Request, Response, Status};

use super::{BlockPolicy, Change, MAX_FIELDS, TenantSettings, Tenants};
use crate::Error;
use crate::clients::ContentFilter;
use crate::room::{Limits, MAX_CAPACITY, TenantRules, Use, check_retention, codec, whole_seconds};

/// How many paths a mask may have.
const MAX_PATHS: usize = 100;

/// The highest limit of rooms, and of users.
const HIGHEST: i64 = 1_000_000_000;

/// In how many live rooms a user may be at most: what one call leaves.
const MOST_LIVE_ROOMS: i32 = 100;

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
        let deadline = Deadline::of(&request);
        let (settings, filter, users) = self.tenants.get(&caller.tenant_id, deadline).await?;
        let counted = settings.used.is_some() || users.is_some();
        let Use { rooms, live_rooms } = settings.used.unwrap_or_default();
        Ok(Response::new(pb::GetTenantSettingsResponse {
            settings: Some(encode(&settings, filter)),
            r#use: counted.then_some(pb::TenantUse { rooms, live_rooms, users }),
        }))
    }

    async fn set_tenant_settings(
        &self,
        request: Request<pb::SetTenantSettingsRequest>,
    ) -> Result<Response<pb::SetTenantSettingsResponse>, Status> {
        let caller = operator(&request)?;
        let deadline = Deadline::of(&request);
        let change = decode(request.into_inner())?;
        let (settings, filter) = self.tenants.set(caller.tenant_id, change, deadline).await?;
        let settings = Some(encode(&settings, filter));
        Ok(Response::new(pb::SetTenantSettingsResponse { settings }))
    }
}

fn decode(request: pb::SetTenantSettingsRequest) -> Result<Change, Error> {
    let settings = request.settings.ok_or_else(|| Violation::new("settings", "is required"))?;
    let mask = request.update_mask.unwrap_or_default().paths;
    fields::length("update_mask", mask.len(), 1..=MAX_PATHS)?;
    let mut change = Change::default();
    for path in mask {
        match path.as_str() {
            "allowed_fields" => {
                change.allowed_fields = Some(names(settings.allowed_fields.clone())?);
            }
            "limits" => change.limits = Some(limits(settings.limits.unwrap_or_default())?),
            "block_policy" => change.block_policy = Some(block_policy(settings.block_policy)?),
            "max_live_rooms_per_user" => {
                let most = max_live_rooms_per_user(settings.max_live_rooms_per_user)?;
                change.max_live_rooms_per_user = Some(most);
            }
            "retention" => {
                let seconds = whole_seconds(settings.retention);
                check_retention("settings", seconds)?;
                change.retention = Some(seconds);
            }
            "content_filter" => {
                let filter = settings.content_filter.clone().unwrap_or_default();
                change.content_filter = Some(content_filter(filter)?);
            }
            _ => return Err(Error::invalid("update_mask", "must name settings only")),
        }
    }
    Ok(change)
}

fn names(names: Vec<String>) -> Result<Vec<String>, Violation> {
    let at = "settings.allowed_fields";
    let names = fields::each(at, names, 0..=MAX_FIELDS, |field, name| {
        if (1..=64).contains(&name.len()) && !name.contains(char::is_control) {
            return Ok(name);
        }
        Err(Violation::new(field, "must have 1 to 64 bytes and no control characters"))
    })?;
    fields::once(names.iter(), |entry| format!("{at}[{entry}]"))?;
    Ok(names)
}

fn limits(limits: pb::TenantLimits) -> Result<Limits, Violation> {
    let number = |field: &str, limit: Option<i64>| match limit {
        Some(limit) if !(0..=HIGHEST).contains(&limit) => {
            let rule = "must be from 0 to 1000000000, or absent";
            Err(Violation::new(format!("settings.limits.{field}"), rule))
        }
        limit => Ok(limit),
    };
    if limits.members.is_some_and(|members| !(1..=MAX_CAPACITY).contains(&members)) {
        let rule = "must be from 1 to 100000, or absent";
        return Err(Violation::new("settings.limits.members", rule));
    }
    Ok(Limits {
        rooms: number("rooms", limits.rooms)?,
        live_rooms: number("live_rooms", limits.live_rooms)?,
        members: limits.members,
        users: number("users", limits.users)?,
    })
}

fn block_policy(policy: i32) -> Result<BlockPolicy, Violation> {
    match pb::BlockPolicy::try_from(policy) {
        Ok(pb::BlockPolicy::Unspecified | pb::BlockPolicy::Refuse) => Ok(BlockPolicy::Refuse),
        Ok(pb::BlockPolicy::Silent) => Ok(BlockPolicy::Silent),
        Err(_) => Err(Violation::new("settings.block_policy", "must be a policy")),
    }
}

/// A filter that message will take.
fn content_filter(filter: log::ContentFilter) -> Result<ContentFilter, Violation> {
    let action = match log::FilterAction::try_from(filter.action) {
        Ok(log::FilterAction::Unspecified) => log::FilterAction::Mask,
        Ok(action) => action,
        Err(_) => {
            return Err(Violation::new("settings.content_filter.action", "must be an action"));
        }
    };
    let at = "settings.content_filter.words";
    let words = fields::each(at, filter.words, 0..=MAX_FILTER_WORDS, |field, word| {
        let wrong = |InvalidFilterWord| Violation::new(field, FilterWord::RULE);
        FilterWord::parse(word).map(FilterWord::into_string).map_err(wrong)
    })?;
    fields::once(words.iter(), |entry| format!("{at}[{entry}]"))?;
    Ok(ContentFilter(log::ContentFilter { words, action: action.into() }))
}

fn max_live_rooms_per_user(most: Option<i32>) -> Result<i32, Violation> {
    let most = most.unwrap_or(TenantRules::default().max_live_rooms_per_user);
    if !(1..=MOST_LIVE_ROOMS).contains(&most) {
        let rule = "must be from 1 to 100, or absent";
        return Err(Violation::new("settings.max_live_rooms_per_user", rule));
    }
    Ok(most)
}

fn encode(settings: &TenantSettings, ContentFilter(filter): ContentFilter) -> pb::TenantSettings {
    let TenantRules { max_live_rooms_per_user, retention } = settings.rules;
    let Limits { rooms, live_rooms, members, users } = settings.limits;
    pb::TenantSettings {
        allowed_fields: settings.names(),
        limits: Some(pb::TenantLimits { rooms, live_rooms, members, users }),
        block_policy: match settings.block_policy {
            BlockPolicy::Refuse => pb::BlockPolicy::Refuse,
            BlockPolicy::Silent => pb::BlockPolicy::Silent,
        }
        .into(),
        max_live_rooms_per_user: Some(max_live_rooms_per_user),
        retention: codec::seconds(retention),
        content_filter: Some(filter),
    }
}
