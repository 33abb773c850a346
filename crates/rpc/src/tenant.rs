//! How often the callers of one tenant may call together, over all replicas.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use parlance_types::TenantId;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use crate::step::{Next, Step};
use crate::{Caller, Principal, Reason, Refusal};

mod bucket;

use bucket::{Bucket, Nanos, Quota, Share};

/// After so many calls, tenants that have been quiet are forgotten.
const SWEEP: u32 = 4096;

/// The step that bounds how often the callers of each tenant call together: so many
/// calls a second on average, so many at once. Answers TENANT_RATE_LIMITED with the
/// wait. Services of the suite are exempt.
///
/// Every call is judged here, by what is known. Replicas share a limit when each adds
/// what it admitted to a tally, every moment, beside the requests: [`Self::begin`].
#[derive(Clone, Debug)]
pub struct TenantRate(Arc<Limiter>);

#[derive(Debug)]
struct Limiter {
    quota: Quota,
    shared: bool,
    /// What times are counted from.
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<TenantId, Bucket>,
    /// Those of whom the tally is to be told, if there is one.
    active: HashSet<TenantId>,
    calls: u32,
}

/// What a replica has to add to the tally of a tenant. It becomes either
/// [`TenantRate::merged`] or [`TenantRate::failed`].
///
/// The tally tells when all calls are paid for. It becomes the later of its own time
/// plus `used`, and of `own` from now.
#[derive(Debug)]
#[must_use = "a merge that does not end blocks the next"]
pub struct Merge {
    pub tenant_id: TenantId,
    /// What was admitted here since the last merge, in nanoseconds of the rate.
    pub used: i64,
    /// In how many nanoseconds that is paid for, were it alone.
    pub own: i64,
    began: Nanos,
}

impl TenantRate {
    /// Allows each tenant `per_second` calls a second and `burst` at once in this
    /// process; `None` when either is 0: no limit.
    pub fn alone(per_second: u32, burst: u32) -> Option<Self> {
        Self::new(per_second, burst, false)
    }

    /// The same together with other processes: somebody must merge.
    pub fn shared(per_second: u32, burst: u32) -> Option<Self> {
        Self::new(per_second, burst, true)
    }

    fn new(per_second: u32, burst: u32, shared: bool) -> Option<Self> {
        let quota = Quota::new(NonZeroU32::new(per_second)?, NonZeroU32::new(burst)?);
        let (origin, state) = (Instant::now(), Mutex::default());
        Some(Self(Arc::new(Limiter { quota, shared, origin, state })))
    }

    /// Admits a call, or says what to answer it.
    pub fn check(&self, caller: &Caller) -> Result<(), Refusal> {
        if matches!(caller.principal, Principal::Internal(_)) {
            return Ok(());
        }
        let tenant_id = &caller.tenant_id;
        self.0.admit(tenant_id).map_err(|wait| {
            Refusal::new(Reason::TenantRateLimited, "too many calls of the tenant")
                .about(format!("tenant:{tenant_id}"))
                .retry_after(wait)
        })
    }

    /// What is to be added to the tallies: of every tenant whose calls are not told or
    /// not paid for, and that has no merge under way.
    pub fn begin(&self) -> Vec<Merge> {
        let now = self.0.now();
        let mut state = self.0.lock();
        let State { buckets, active, .. } = &mut *state;
        let mut merges = Vec::new();
        active.retain(|tenant_id| {
            let Some(bucket) = buckets.get_mut(tenant_id) else { return false };
            if let Some(Share { used, own }) = bucket.begin(now) {
                merges.push(Merge { tenant_id: tenant_id.clone(), used, own, began: now });
            }
            // While a merge is under way it waits for its turn.
            bucket.is_open(now)
        });
        merges
    }

    /// The tally is paid for in `left` nanoseconds.
    pub fn merged(&self, merge: &Merge, left: i64) {
        let now = self.0.now();
        self.end(merge, |bucket| bucket.merged(merge.began, left, now));
    }

    /// The tally could not be reached: this process goes on alone, and tells it how
    /// far it is the next time.
    pub fn failed(&self, merge: &Merge) {
        self.end(merge, Bucket::failed);
    }

    fn end(&self, merge: &Merge, how: impl FnOnce(&mut Bucket)) {
        let mut state = self.0.lock();
        if let Some(bucket) = state.buckets.get_mut(&merge.tenant_id) {
            how(bucket);
            state.active.insert(merge.tenant_id.clone());
        }
    }
}

impl Limiter {
    fn now(&self) -> Nanos {
        Nanos::try_from(self.origin.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, tenant_id: &TenantId) -> Result<(), Duration> {
        let mut state = self.lock();
        // Within the lock: times of one bucket do not go back.
        let now = self.now();
        state.sweep(now, self.shared);
        let State { buckets, active, .. } = &mut *state;
        let bucket = buckets.entry(tenant_id.clone()).or_default();
        bucket.admit(self.quota, now)?;
        if self.shared && !active.contains(tenant_id) {
            active.insert(tenant_id.clone());
        }
        Ok(())
    }
}

impl State {
    fn sweep(&mut self, now: Nanos, shared: bool) {
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(SWEEP) {
            self.buckets.retain(|_, bucket| !bucket.is_idle(now, shared));
            self.buckets.shrink_to_fit();
        }
    }
}

impl Step for TenantRate {
    async fn run<S: Next>(
        &self,
        request: Request<Body>,
        next: &S,
    ) -> Result<Response<Body>, S::Error> {
        if let Some(caller) = request.extensions().get::<Caller>()
            && let Err(refusal) = self.check(caller)
        {
            return Ok(Status::from(refusal).into_http());
        }
        next.call(request).await
    }
}

#[cfg(test)]
mod tests {
    use parlance_types::UserId;
    use tonic_types::StatusExt;

    use super::*;

    fn caller(tenant: &str, principal: Principal) -> Caller {
        let (tenant_id, subject) = (TenantId::new(tenant), "test".to_owned());
        Caller { tenant_id, subject, principal, expires: 0, leaves: None }
    }

    fn ann(tenant: &str) -> Caller {
        caller(tenant, Principal::User(UserId::new("ann")))
    }

    #[test]
    fn the_callers_of_a_tenant_are_counted_together_and_the_suite_itself_is_not() {
        let limit = TenantRate::alone(1, 2).expect("a limit");
        assert!(limit.check(&ann("acme")).is_ok());
        assert!(limit.check(&caller("acme", Principal::Service)).is_ok());
        let refusal = limit.check(&ann("acme")).expect_err("refused");
        assert_eq!(refusal.reason(), Reason::TenantRateLimited);
        let status = Status::from(refusal);
        let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(1)), "{wait:?}");
        let quota = status.get_details_quota_failure().expect("a quota");
        assert_eq!(quota.violations[0].subject, "tenant:acme");
        assert!(limit.check(&ann("other")).is_ok());
        let internal = caller("acme", Principal::Internal(None));
        assert!((0..10).all(|_| limit.check(&internal).is_ok()));
    }

    #[test]
    fn a_rate_or_burst_of_0_is_no_limit() {
        assert!(TenantRate::alone(0, 5).is_none());
        assert!(TenantRate::shared(5, 0).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_tenants_are_forgotten_once_the_tally_knows_of_them() {
        let limits = [TenantRate::alone(1000, 1), TenantRate::shared(1000, 1)];
        for limit in limits.map(|limit| limit.expect("a limit")) {
            let mut call = 0;
            let mut some = async || {
                for _ in 0..2 * SWEEP {
                    call += 1;
                    assert!(limit.check(&ann(&format!("tenant-{call}"))).is_ok());
                }
                tokio::time::advance(Duration::from_millis(1)).await;
            };
            let known = || limit.0.lock().buckets.len();
            some().await;
            some().await;
            if limit.0.shared {
                assert_eq!(known(), 4 * usize::try_from(SWEEP).expect("small"));
                let merges = limit.begin();
                assert_eq!(merges.len(), known());
                assert!(limit.begin().is_empty(), "one merge at a time");
                for merge in &merges {
                    limit.merged(merge, merge.own);
                }
            }
            some().await;
            assert!(known() <= 3 * usize::try_from(SWEEP).expect("small"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_told_is_told_again_until_it_is_paid_for() {
        let limit = TenantRate::shared(10, 10).expect("a limit");
        assert!(limit.check(&ann("acme")).is_ok());
        let merges = limit.begin();
        assert_eq!(merges.len(), 1);
        assert_eq!(merges[0].used, 100_000_000);
        limit.failed(&merges[0]);
        tokio::time::advance(Duration::from_millis(60)).await;
        let again = limit.begin();
        assert_eq!((again[0].used, again[0].own), (0, 40_000_000));
        limit.failed(&again[0]);
        tokio::time::advance(Duration::from_millis(60)).await;
        assert!(limit.begin().is_empty());
        assert!(limit.0.lock().active.is_empty());
    }
}
