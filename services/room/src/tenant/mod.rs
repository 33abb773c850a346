//! What operators decide for a tenant.

mod grpc;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use parlance_db::Db;
use parlance_rpc::{Deadline, Env, Tasks, detached};
use parlance_types::{Clock, TenantId};

pub(crate) use grpc::TenantSettingsGrpc;

use crate::Error;
use crate::room::{AllowedFields, Limits, Use};

/// The most fields that rooms may have.
const MAX_FIELDS: usize = 10;

/// The settings of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TenantSettings {
    allowed_fields: AllowedFields,
    limits: Limits,
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
}

impl TenantSettings {
    /// The names of the fields that rooms may have.
    fn names(&self) -> Vec<String> {
        self.allowed_fields.0.keys().cloned().collect()
    }

    /// The settings after a change. A name that stays is allowed since when it was.
    fn after(self, change: &Change) -> Self {
        let limits = change.limits.unwrap_or(self.limits);
        let Some(names) = &change.allowed_fields else { return Self { limits, ..self } };
        let (before, version) = (self.allowed_fields.0, self.version + 1);
        let since = |name: &String| before.get(name).copied().unwrap_or(version);
        let after: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), since(name))).collect();
        Self { allowed_fields: AllowedFields(after), limits, version, ..self }
    }
}

/// The settings of all tenants.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    db: Db,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
}

impl Tenants {
    pub(crate) fn new(db: Db, env: &Env) -> Self {
        Self { db, tasks: env.tasks.clone(), clock: Arc::clone(&env.clock) }
    }

    async fn get(&self, tenant: &TenantId) -> Result<TenantSettings, Error> {
        store::get(&self.db, tenant).await
    }

    /// Changes settings, to the end even if the caller goes away.
    async fn set(
        &self,
        tenant: TenantId,
        change: Change,
        deadline: Deadline,
    ) -> Result<TenantSettings, Error> {
        let (db, now) = (self.db.clone(), self.clock.now());
        let set = async move { store::set(&db, &tenant, &change, now).await };
        deadline.bound(detached(self.tasks.track(set))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_back_is_allowed_anew() {
        let change = |names: &[&str]| Change {
            allowed_fields: Some(names.iter().map(ToString::to_string).collect()),
            limits: None,
        };
        let settings = TenantSettings::default().after(&change(&["b", "a"]));
        let settings = settings.after(&change(&["b", "c"])).after(&change(&["a", "b"]));
        let since: Vec<_> = settings.allowed_fields.0.into_iter().collect();
        assert_eq!(since, [("a".to_owned(), 3), ("b".to_owned(), 1)]);
        assert_eq!(settings.version, 3);
    }
}
