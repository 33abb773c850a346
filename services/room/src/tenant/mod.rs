//! What operators decide for a tenant.

mod grpc;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use parlance_db::Db;
use parlance_rpc::{Deadline, Env, Tasks, detached};
use parlance_types::{Clock, TenantId, stored_enum};

pub(crate) use grpc::TenantSettingsGrpc;

use crate::Error;
use crate::clients::{self, ContentFilter, Filters};
use crate::room::{AllowedFields, Limits, TenantRules, Use};

/// The most fields that rooms may have.
const MAX_FIELDS: usize = 10;

stored_enum! {
    /// What becomes of what blocked users write in direct rooms.
    #[derive(Default)]
    BlockPolicy { #[default] Refuse = 1, Silent = 2 }
}

/// The settings of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TenantSettings {
    allowed_fields: AllowedFields,
    limits: Limits,
    block_policy: BlockPolicy,
    rules: TenantRules,
    /// How much there is, if it is counted.
    used: Option<Use>,
    /// Counts the changes.
    version: i64,
}

/// New values of some settings.
#[derive(Clone, Debug, Default)]
struct Change {
    /// In any order, each once.
    allowed_fields: Option<Vec<String>>,
    limits: Option<Limits>,
    block_policy: Option<BlockPolicy>,
    max_live_rooms_per_user: Option<i32>,
    /// In seconds; 0: for ever.
    retention: Option<i64>,
    content_filter: Option<ContentFilter>,
}

impl TenantSettings {
    /// What membership enforces.
    const fn told(&self) -> clients::TenantRules {
        clients::TenantRules {
            version: self.version,
            max_users: self.limits.users,
            silent_blocks: matches!(self.block_policy, BlockPolicy::Silent),
        }
    }

    /// The names of the fields that rooms may have.
    fn names(&self) -> Vec<String> {
        self.allowed_fields.0.keys().cloned().collect()
    }

    /// The settings after a change. A name that stays is allowed since when it was.
    fn after(self, change: &Change) -> Self {
        let version = self.version + 1;
        let changed = Self {
            limits: change.limits.unwrap_or(self.limits),
            block_policy: change.block_policy.unwrap_or(self.block_policy),
            rules: TenantRules {
                max_live_rooms_per_user: change
                    .max_live_rooms_per_user
                    .unwrap_or(self.rules.max_live_rooms_per_user),
                retention: change.retention.unwrap_or(self.rules.retention),
            },
            version,
            ..self
        };
        let Some(names) = &change.allowed_fields else { return changed };
        let before = changed.allowed_fields.0;
        let since = |name: &String| before.get(name).copied().unwrap_or(version);
        let after: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), since(name))).collect();
        Self { allowed_fields: AllowedFields(after), ..changed }
    }
}

/// The settings of all tenants.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    db: Db,
    /// What membership has of them.
    below: clients::Tenants,
    /// What message keeps of them: it alone, so that a filter is nowhere shown that does not hold.
    filters: Filters,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
}

impl Tenants {
    pub(crate) fn new(db: Db, below: clients::Tenants, filters: Filters, env: &Env) -> Self {
        Self { db, below, filters, tasks: env.tasks.clone(), clock: Arc::clone(&env.clock) }
    }

    /// The settings of a tenant, with its filter, and how many users it has, if they are limited.
    async fn get(
        &self,
        tenant: &TenantId,
        deadline: Deadline,
    ) -> Result<(TenantSettings, ContentFilter, Option<i64>), Error> {
        let settings = deadline.bound(store::get(&self.db, tenant)).await?;
        let users = match settings.limits.users {
            Some(_) => self.below.users(tenant, deadline).await?,
            None => None,
        };
        Ok((settings, self.filters.get(tenant, deadline).await?, users))
    }

    /// Changes settings, to the end even if the caller goes away. What membership enforces is
    /// stored here before membership is told: if that fails, a repeat tells it. The filter is put
    /// last, since that takes longest.
    async fn set(
        &self,
        tenant: TenantId,
        change: Change,
        deadline: Deadline,
    ) -> Result<(TenantSettings, ContentFilter), Error> {
        let (tenants, now) = (self.clone(), self.clock.now());
        let set = async move {
            let mut settings = store::set(&tenants.db, &tenant, &change, now).await?;
            if change.limits.is_some() || change.block_policy.is_some() {
                settings = tenants.tell(&tenant, settings, deadline).await?;
            }
            let Some(filter) = change.content_filter else {
                return Ok((settings, tenants.filters.get(&tenant, deadline).await?));
            };
            tenants.filters.put(&tenant, filter.clone(), deadline).await?;
            Ok((settings, filter))
        };
        deadline.bound(detached(self.tasks.track(set))).await
    }

    /// Tells membership of settings, unless it knows later ones. Of several operators at once
    /// each may be the last to tell, so that what holds is told by its version.
    async fn tell(
        &self,
        tenant: &TenantId,
        settings: TenantSettings,
        deadline: Deadline,
    ) -> Result<TenantSettings, Error> {
        let known = self.below.set_rules(tenant, settings.told(), deadline).await?;
        if known == settings.version {
            return Ok(settings);
        }
        // Another operator's, of which these are a part; or those of a time that this database
        // has forgotten, since it was put back.
        let settings = store::renew(&self.db, tenant, known).await?;
        self.below.set_rules(tenant, settings.told(), deadline).await?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_back_is_allowed_anew() {
        let change = |names: &[&str]| Change {
            allowed_fields: Some(names.iter().map(ToString::to_string).collect()),
            ..Change::default()
        };
        let settings = TenantSettings::default().after(&change(&["b", "a"]));
        let settings = settings.after(&change(&["b", "c"])).after(&change(&["a", "b"]));
        let since: Vec<_> = settings.allowed_fields.0.into_iter().collect();
        assert_eq!(since, [("a".to_owned(), 3), ("b".to_owned(), 1)]);
        assert_eq!(settings.version, 3);
    }
}
