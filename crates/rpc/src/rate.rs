//! How often a caller may call.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{Request, Response};
use parlance_types::TenantId;
use tonic::Status;
use tonic::body::Body;

use crate::caller::Party;
use crate::step::{Next, Step};
use crate::{Caller, Reason, Refusal};

/// After so many calls, callers that have been quiet are forgotten.
const SWEEP: u32 = 4096;

/// Whose calls are counted together.
type Key = (TenantId, Party);

/// The step that bounds how often each caller calls: so many calls a second on
/// average, so many at once. Answers RATE_LIMITED with the exact wait. A backend is one
/// caller whoever it acts for, and has a limit of its own: it calls for many users. Services
/// of the suite are exempt.
#[derive(Debug)]
pub struct RateLimit<C: Clock = DefaultClock>(Arc<Limiter<C>>);

#[derive(Debug)]
struct Limiter<C: Clock> {
    callers: RateLimiter<Key, DashMapStateStore<Key>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    calls: AtomicU32,
    /// Whom it bounds: backends, or everybody else.
    services: bool,
}

impl<C: Clock> Clone for RateLimit<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl RateLimit {
    /// Allows each user and operator `per_second` calls a second and `burst` at once; `None`
    /// when either is 0: no limit.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        Self::with_clock(per_second, burst, false, DefaultClock::default())
    }

    /// The same for each backend.
    pub fn of_services(per_second: u32, burst: u32) -> Option<Self> {
        Self::with_clock(per_second, burst, true, DefaultClock::default())
    }
}

impl<C: Clock + Clone> RateLimit<C> {
    fn with_clock(per_second: u32, burst: u32, services: bool, clock: C) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        let quota = quota.allow_burst(NonZeroU32::new(burst)?);
        let callers = RateLimiter::new(quota, DashMapStateStore::default(), clock.clone());
        Some(Self(Arc::new(Limiter { callers, clock, calls: AtomicU32::new(0), services })))
    }

    /// Counts a call, or says how long it must wait.
    pub fn check(&self, caller: &Caller) -> Result<(), Refusal> {
        let Limiter { callers, clock, calls, services } = &*self.0;
        let party = caller.party();
        let Some(party) = party.filter(|it| matches!(it, Party::Service(_)) == *services) else {
            return Ok(());
        };
        if calls.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            callers.retain_recent();
            callers.shrink_to_fit();
        }
        let key = (caller.tenant_id.clone(), party);
        callers.check_key(&key).map_err(|until| {
            let wait = until.wait_time_from(clock.now());
            Refusal::new(Reason::RateLimited, "too many calls").retry_after(wait)
        })
    }
}

impl<C: Clock + Clone + Send + Sync + 'static> Step for RateLimit<C>
where
    C::Instant: Send + Sync,
{
    async fn run<N: Next>(
        &self,
        request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
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
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;
    use parlance_types::UserId;
    use tonic_types::StatusExt;

    use super::*;
    use crate::Principal;

    fn caller(tenant: &str, principal: Principal) -> Caller {
        let (tenant_id, subject) = (TenantId::new(tenant), "test".to_owned());
        Caller { tenant_id, subject, principal, expires: 0, leaves: None }
    }

    fn wait(refusal: Refusal) -> Duration {
        let info = Status::from(refusal).get_details_retry_info();
        info.and_then(|info| info.retry_delay).expect("a delay")
    }

    #[test]
    fn a_call_repeated_after_its_retry_info_is_not_refused_and_one_before_it_is() {
        for (per_second, burst) in [(1, 1), (3, 2), (7, 5), (1000, 2000)] {
            let clock = FakeRelativeClock::default();
            let limit =
                RateLimit::with_clock(per_second, burst, false, clock.clone()).expect("a limit");
            let ann = caller("acme", Principal::User(UserId::new("ann")));
            for call in 0..burst {
                assert!(limit.check(&ann).is_ok(), "call {call} of {burst}");
            }
            for _ in 0..10 {
                let delay = wait(limit.check(&ann).expect_err("refused"));
                clock.advance(delay.saturating_sub(Duration::from_nanos(1)));
                assert_eq!(wait(limit.check(&ann).expect_err("early")), Duration::from_nanos(1));
                clock.advance(Duration::from_nanos(1));
                assert!(limit.check(&ann).is_ok());
            }
        }
    }

    #[test]
    fn users_are_counted_one_by_one_a_service_as_one_and_the_suite_itself_is_not() {
        let limit = |services| {
            let clock = FakeRelativeClock::default();
            RateLimit::with_clock(1, 1, services, clock).expect("a limit")
        };
        let (users, services) = (limit(false), limit(true));
        let ann = || UserId::new("ann");
        for user in [
            caller("acme", Principal::User(ann())),
            caller("acme", Principal::User(UserId::new("bob"))),
            caller("other", Principal::User(ann())),
        ] {
            assert!(users.check(&user).is_ok(), "{user:?}");
            assert!(users.check(&user).is_err(), "{user:?}");
            assert!((0..10).all(|_| services.check(&user).is_ok()));
        }
        for tenant in ["acme", "other"] {
            assert!(services.check(&caller(tenant, Principal::ServiceFor(ann()))).is_ok());
            for same in [Principal::ServiceFor(UserId::new("bob")), Principal::Service] {
                assert!(services.check(&caller(tenant, same)).is_err());
            }
            let service = caller(tenant, Principal::Service);
            assert!((0..10).all(|_| users.check(&service).is_ok()));
        }
        let internal = caller("acme", Principal::Internal(Some(ann())));
        assert!((0..10).all(|_| users.check(&internal).is_ok()));
        assert!((0..10).all(|_| services.check(&internal).is_ok()));
    }

    #[test]
    fn quiet_callers_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let limit = RateLimit::with_clock(10, 1, false, clock.clone()).expect("a limit");
        for user in 0..3 * SWEEP {
            let user = UserId::new(format!("user-{user}"));
            assert!(limit.check(&caller("acme", Principal::User(user))).is_ok());
            clock.advance(Duration::from_millis(1));
        }
        assert!(limit.0.callers.len() <= 2 * usize::try_from(SWEEP).expect("small"));
    }

    #[test]
    fn a_rate_or_burst_of_0_is_no_limit() {
        assert!(RateLimit::new(0, 5).is_none());
        assert!(RateLimit::new(5, 0).is_none());
    }
}
