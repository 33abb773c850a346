//! What each message of a stream of requests passes: what a call of its own would.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tonic::body::Body;

use crate::account::{Account, Counted, Full, Held};
use crate::arriving::overloaded;
use crate::reflection::takes_stream;
use crate::step::{Next, Step};
use crate::{Caller, DEFAULT_DEADLINE, Deadline, RateLimit, Refusal, TenantRate};

/// The rates that messages of a stream count for, as calls do, and how long each has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) rate: Option<RateLimit>,
    pub(crate) service_rate: Option<RateLimit>,
    pub(crate) tenant_rate: Option<TenantRate>,
    /// How long a call has whose client does not say.
    pub(crate) deadline: Option<Duration>,
}

impl Step for Rates {
    async fn run<N: Next>(
        &self,
        mut request: Request<Body>,
        next: &N,
    ) -> Result<Response<Body>, N::Error> {
        if takes_stream(request.uri().path()) {
            request.extensions_mut().insert(self.clone());
        }
        next.call(request).await
    }
}

/// Admits the messages of one stream, each as a call of its own would be: for the rates of its
/// caller and tenant, among the calls that are handled, and with its bytes.
#[derive(Clone, Debug, Default)]
pub struct Each {
    caller: Option<Caller>,
    rates: Rates,
    account: Option<Arc<Account>>,
}

/// A message that is handled, counted until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    _call: Option<Counted>,
    _bytes: Option<Held>,
}

impl Each {
    /// That of a call. Within the process nothing is counted: it was where the call began.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let extensions = request.extensions();
        Self {
            caller: extensions.get().cloned(),
            rates: extensions.get().cloned().unwrap_or_default(),
            account: extensions.get().cloned(),
        }
    }

    /// When a message must be answered that is read now.
    pub fn deadline(&self) -> Deadline {
        Deadline::within(self.rates.deadline.unwrap_or(DEFAULT_DEADLINE))
    }

    /// Does the work on a message, which is its caller's.
    pub fn does<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        let whose = self.caller.as_ref().map(Caller::whose);
        async move {
            match whose {
                Some(whose) => whose.does(work).await,
                None => work.await,
            }
        }
    }

    /// Admits a message of so many bytes, or says what to answer it.
    pub fn admit(&self, bytes: usize) -> Result<Admitted, Refusal> {
        let Rates { rate, service_rate, tenant_rate, .. } = &self.rates;
        if let Some(caller) = &self.caller {
            for rate in [rate, service_rate].into_iter().flatten() {
                rate.check(caller)?;
            }
            tenant_rate.as_ref().map_or(Ok(()), |rate| rate.check(caller))?;
        }
        let Some(account) = &self.account else {
            return Ok(Admitted { _call: None, _bytes: None });
        };
        let call = account.enter().map_err(overloaded)?;
        let bytes = account.hold(bytes).ok_or_else(|| overloaded(Full::Caller))?;
        Ok(Admitted { _call: Some(call), _bytes: Some(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use parlance_types::{TenantId, UserId};

    use super::*;
    use crate::account::Ledger;
    use crate::{Principal, Reason};

    fn ann() -> Caller {
        let (tenant_id, subject) = (TenantId::new("acme"), "test".to_owned());
        let principal = Principal::User(UserId::new("ann"));
        Caller { tenant_id, subject, principal, expires: 0, leaves: None }
    }

    fn each(rates: Rates, calls: usize) -> Each {
        let mut request = tonic::Request::new(());
        request.extensions_mut().insert(ann());
        request.extensions_mut().insert(rates);
        request.extensions_mut().insert(Arc::new(Ledger::new(calls)).account(Some(&ann()), None));
        Each::of(&request)
    }

    #[tokio::test]
    async fn each_message_counts_for_every_rate_that_a_call_counts_for() {
        let some = || RateLimit::new(1, 3);
        let tenant = || TenantRate::alone(1, 3);
        for (rate, tenant_rate, reason) in
            [(some(), None, Reason::RateLimited), (None, tenant(), Reason::TenantRateLimited)]
        {
            let each = each(Rates { rate, tenant_rate, ..Rates::default() }, 100);
            for _ in 0..3 {
                each.admit(10).expect("within the burst");
            }
            assert_eq!(each.admit(10).expect_err("one too many").reason(), reason);
        }
        let service_rate = RateLimit::of_services(1, 1);
        let users = each(Rates { service_rate, ..Rates::default() }, 100);
        assert!((0..3).all(|_| users.admit(10).is_ok()));
    }

    #[tokio::test]
    async fn open_messages_are_calls_that_are_handled_and_bytes_that_are_held() {
        let each = each(Rates::default(), 8);
        let open = [each.admit(10).expect("one"), each.admit(10).expect("two")];
        assert_eq!(each.admit(10).expect_err("a quarter").reason(), Reason::Overloaded);
        drop(open);
        let large = each.admit(16 << 20).expect("alone");
        assert_eq!(each.admit(1).expect_err("no room").reason(), Reason::Overloaded);
        drop(large);
        each.admit(1).expect("everything is given back");
    }

    #[test]
    fn within_the_process_nothing_is_counted() {
        let each = Each::of(&tonic::Request::new(()));
        assert!((0..10_000).all(|_| each.admit(1 << 20).is_ok()));
    }
}
