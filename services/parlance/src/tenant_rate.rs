//! Shares the limits of tenants with the other replicas of a service.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parlance_bus::Tallies;
use parlance_rpc::{Merge, Tasks, TenantRate};
use tokio::time::{Instant, timeout_at};

/// How often what was admitted is merged.
const EVERY: Duration = Duration::from_millis(100);

/// How long the merges of all tenants may take.
const WITHIN: Duration = Duration::from_millis(500);

/// How many merges are under way at once.
const AT_ONCE: usize = 64;

/// Merges what the callers of each tenant used, from now on. Without Redis every process
/// goes on alone.
pub(crate) fn share(rate: TenantRate, tallies: Tallies, tasks: &Tasks) {
    let tallies = Arc::new(tallies);
    tasks.every("tenant rates", EVERY, Arc::default(), move || {
        let (rate, tallies) = (rate.clone(), Arc::clone(&tallies));
        async move { merge(&rate, &tallies).await }
    });
}

async fn merge(rate: &TenantRate, tallies: &Tallies) -> Result<(), &'static str> {
    let due = Instant::now() + WITHIN;
    let merges = rate.begin().into_iter().map(|merge| one(rate, tallies, merge, due));
    let merges = futures::stream::iter(merges).buffer_unordered(AT_ONCE);
    let failed = merges.fold(false, async |failed, done| failed || !done).await;
    if failed { Err("limits of tenants are this process's own for now") } else { Ok(()) }
}

/// Whether one merge was made.
async fn one(rate: &TenantRate, tallies: &Tallies, merge: Merge, due: Instant) -> bool {
    let added = tallies.add(merge.tenant_id.as_str(), merge.used, merge.own);
    match timeout_at(due, added).await {
        Ok(Ok(left)) => {
            rate.merged(&merge, left);
            return true;
        }
        Ok(Err(error)) => tracing::debug!(%error, "cannot share the limit of a tenant"),
        Err(_) => tracing::debug!("redis took too long to share the limit of a tenant"),
    }
    rate.failed(&merge);
    false
}

#[cfg(test)]
mod tests;
