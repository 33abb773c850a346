//! What is held for whom: calls that are handled, and bytes that arrive or wait to be sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlance_types::TenantId;

use crate::arriving::overloaded;
use crate::caller::Party;
use crate::line::Line;
use crate::{Caller, Refusal};

const MIB: usize = 1024 * 1024;

/// Bytes held for the calls of one connection, of one caller, of the callers of one tenant,
/// and of all. What is alone is taken whatever its size: an answer has a bound of its own.
const OF_LINE: usize = 8 * MIB;
const OF_CALLER: usize = 16 * MIB;
const OF_TENANT: usize = 32 * MIB;
const OF_ALL: usize = 128 * MIB;

/// Streams of requests that one caller has open, and the callers of one tenant together.
const STREAMS_OF_CALLER: usize = 64;
const STREAMS_OF_TENANT: usize = 1024;

/// Calls that need no token and stay, over all connections.
const OPEN_STREAMS: usize = 1024;

/// For whom something is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    /// Whoever showed no token: together.
    Strangers,
    Caller(TenantId, Party),
    Tenant(TenantId),
}

/// What is held for one.
#[derive(Debug, Default)]
struct Use {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    /// Streams of requests.
    streams: AtomicUsize,
}

/// What is held for everybody.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The most calls at once.
    calls: usize,
    all: Use,
    open_streams: AtomicUsize,
    holders: Mutex<HashMap<Holder, Arc<Use>>>,
}

/// What one call holds, and for whom.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    /// There if the call came over the network.
    line: Option<Arc<Line>>,
    /// Nobody of the suite itself: its calls were admitted where they began.
    holders: Vec<(Holder, Arc<Use>)>,
    bounded: bool,
}

/// A call that is handled, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Account>);

/// A stream of requests, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Flow(Arc<Account>);

/// Bytes that are held for a caller, counted until they are dropped.
#[derive(Debug)]
pub struct Held(Arc<Account>, usize);

impl Held {
    /// Counts both in one.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.1 += std::mem::take(&mut other.1);
    }
}

/// A stream that needs no token, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<Ledger>);

/// Whose bound it is that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    All,
    Tenant,
    Caller,
}

/// Counts memory that is held for the caller of a request beyond it, until what is returned is
/// dropped. A call within the process counts where it began: nothing is returned.
pub fn hold<T>(request: &tonic::Request<T>, bytes: usize) -> Result<Option<Held>, tonic::Status> {
    let Some(account) = request.extensions().get::<Arc<Account>>() else { return Ok(None) };
    let held = account.hold(bytes).ok_or_else(|| overloaded(Full::Caller))?;
    Ok(Some(held))
}

/// Adds to a count unless it is over the bound then. What is alone is taken.
fn add(count: &AtomicUsize, more: usize, most: usize) -> bool {
    let before = count.fetch_add(more, Ordering::Relaxed);
    let fits = before == 0 || before + more <= most;
    if !fits {
        count.fetch_sub(more, Ordering::Relaxed);
    }
    fits
}

impl Ledger {
    pub(crate) fn new(calls: usize) -> Self {
        let (all, open_streams) = (Use::default(), AtomicUsize::new(0));
        Self { calls, all, open_streams, holders: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, Arc<Use>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account of a call.
    pub(crate) fn account(
        self: &Arc<Self>,
        caller: Option<&Caller>,
        line: Option<Arc<Line>>,
    ) -> Arc<Account> {
        let party = caller.map(|caller| (&caller.tenant_id, caller.party()));
        let (of, bounded) = match party {
            None => (vec![Holder::Strangers], true),
            Some((_, None)) => (Vec::new(), false),
            Some((tenant, Some(party))) => {
                (vec![Holder::Caller(tenant.clone(), party), Holder::Tenant(tenant.clone())], true)
            }
        };
        let mut holders = self.lock();
        let mut own = |holder: Holder| {
            let used = Arc::clone(holders.entry(holder.clone()).or_default());
            (holder, used)
        };
        let of = of.into_iter().map(&mut own).collect();
        drop(holders);
        Arc::new(Account { ledger: Arc::clone(self), line, holders: of, bounded })
    }

    /// A place for a stream that needs no token.
    pub(crate) fn open_stream(self: &Arc<Self>) -> Option<OpenStream> {
        let stream = OpenStream(Arc::clone(self));
        (self.open_streams.fetch_add(1, Ordering::Relaxed) < OPEN_STREAMS).then_some(stream)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let nothing = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 0;
        nothing(&self.all.calls) && nothing(&self.all.bytes) && self.lock().is_empty()
    }
}

impl Holder {
    /// The share of all calls: a quarter for a caller, half for a tenant.
    fn calls(&self, all: usize) -> usize {
        match self {
            Self::Strangers | Self::Caller(..) => all.div_ceil(4),
            Self::Tenant(_) => all.div_ceil(2),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Strangers | Self::Caller(..) => OF_CALLER,
            Self::Tenant(_) => OF_TENANT,
        }
    }

    fn streams(&self) -> usize {
        match self {
            Self::Strangers | Self::Caller(..) => STREAMS_OF_CALLER,
            Self::Tenant(_) => STREAMS_OF_TENANT,
        }
    }

    fn full(&self) -> Full {
        match self {
            Self::Strangers | Self::Caller(..) => Full::Caller,
            Self::Tenant(_) => Full::Tenant,
        }
    }
}

impl Account {
    /// Counts the call among those that are handled.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Counted, Full> {
        let ledger = &self.ledger;
        let bounds = std::iter::once((&ledger.all.calls, ledger.calls, Full::All)).chain(
            self.holders
                .iter()
                .map(|(holder, used)| (&used.calls, holder.calls(ledger.calls), holder.full())),
        );
        take(bounds, 1).map(|()| Counted(Arc::clone(self)))
    }

    /// Counts the call among the streams of requests that are open.
    pub(crate) fn flow(self: &Arc<Self>) -> Option<Flow> {
        take(self.flow_counts(), 1).ok().map(|()| Flow(Arc::clone(self)))
    }

    fn flow_counts(&self) -> impl Iterator<Item = (&AtomicUsize, usize, Full)> + Clone {
        let holders = self.holders.iter();
        holders.map(|(holder, used)| (&used.streams, holder.streams(), holder.full()))
    }

    /// Counts bytes that are held for the call.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        if self.bounded {
            take(self.byte_counts(), bytes).ok()?;
        }
        Some(Held(Arc::clone(self), bytes))
    }

    /// Counts bytes that have come, beside those that are held already, or refuses them.
    pub(crate) fn hold_more(
        self: &Arc<Self>,
        held: &mut Option<Held>,
        bytes: usize,
    ) -> Result<(), Refusal> {
        let more = self.hold(bytes).ok_or_else(|| overloaded(Full::Caller))?;
        match held {
            Some(held) => held.join(more),
            None => *held = Some(more),
        }
        Ok(())
    }

    /// Bytes held for the calls of its connection.
    pub(crate) fn bytes_of_line(&self) -> usize {
        self.line.as_ref().map_or(0, |line| line.bytes.load(Ordering::Relaxed))
    }

    fn byte_counts(&self) -> impl Iterator<Item = (&AtomicUsize, usize, Full)> + Clone {
        let line = self.line.iter().map(|line| (&line.bytes, OF_LINE, Full::Caller));
        let all = std::iter::once((&self.ledger.all.bytes, OF_ALL, Full::All));
        let holders = self.holders.iter();
        line.chain(all)
            .chain(holders.map(|(holder, used)| (&used.bytes, holder.bytes(), holder.full())))
    }
}

/// Adds to all counts, or to none.
fn take<'a>(
    counts: impl Iterator<Item = (&'a AtomicUsize, usize, Full)> + Clone,
    more: usize,
) -> Result<(), Full> {
    for (at, (count, most, full)) in counts.clone().enumerate() {
        if !add(count, more, most) {
            counts.take(at).for_each(|(count, ..)| {
                count.fetch_sub(more, Ordering::Relaxed);
            });
            return Err(full);
        }
    }
    Ok(())
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Account { ledger, holders, .. } = &*self.0;
        ledger.all.calls.fetch_sub(1, Ordering::Relaxed);
        for (_, used) in holders {
            used.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        for (count, ..) in self.0.flow_counts() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.bounded {
            for (count, ..) in self.0.byte_counts() {
                count.fetch_sub(self.1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.holders.is_empty() {
            return;
        }
        // Under the lock, so that the last one sees that it is the last.
        let mut all = self.ledger.lock();
        for (holder, used) in self.holders.drain(..) {
            drop(used);
            if all.get(&holder).is_some_and(|used| Arc::strong_count(used) == 1) {
                all.remove(&holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parlance_types::UserId;

    use super::*;
    use crate::Principal;
    use crate::line::Pace;

    fn of(tenant: &str, principal: Principal) -> Caller {
        let (tenant_id, subject) = (TenantId::new(tenant), "backend".to_owned());
        Caller { tenant_id, subject, principal, expires: 0, leaves: None }
    }

    fn user(name: &str) -> Principal {
        Principal::User(UserId::new(name))
    }

    fn line() -> Arc<Line> {
        Arc::new(Line::new(Pace::new(1, Duration::from_secs(1))))
    }

    fn enter(ledger: &Arc<Ledger>, caller: &Caller) -> Result<Counted, Full> {
        ledger.account(Some(caller), None).enter()
    }

    #[tokio::test]
    async fn a_caller_takes_a_quarter_of_the_calls_and_a_tenant_half() {
        let ledger = Arc::new(Ledger::new(8));
        let mut held = Vec::new();
        for name in ["ann", "bob"] {
            held.extend((0..2).map(|_| enter(&ledger, &of("acme", user(name))).expect("a place")));
            assert!(matches!(enter(&ledger, &of("acme", user(name))), Err(Full::Caller)));
        }
        assert!(matches!(enter(&ledger, &of("acme", user("eve"))), Err(Full::Tenant)));
        for tenant in ["globex", "initech"] {
            held.extend((0..2).map(|_| enter(&ledger, &of(tenant, user("ann"))).expect("a place")));
        }
        assert!(matches!(enter(&ledger, &of("umbrella", user("ann"))), Err(Full::All)));
        drop(held);
        assert!(ledger.is_empty(), "everything is given back, and nobody is remembered");
    }

    #[tokio::test]
    async fn streams_of_requests_are_few_per_caller_and_per_tenant() {
        let ledger = Arc::new(Ledger::new(8));
        let flow =
            |tenant: &str, name: &str| ledger.account(Some(&of(tenant, user(name))), None).flow();
        let mut open = Vec::new();
        for name in 0..STREAMS_OF_TENANT / STREAMS_OF_CALLER {
            let name = name.to_string();
            open.extend((0..STREAMS_OF_CALLER).map(|_| flow("acme", &name).expect("a place")));
            assert!(flow("acme", &name).is_none());
        }
        assert!(flow("globex", "ann").is_some());
        open.pop();
        let last = flow("acme", "15").expect("what was given back");
        open.extend([last]);
        drop(open);
        assert!(ledger.is_empty());
    }

    #[tokio::test]
    async fn a_service_is_one_caller_whoever_it_acts_for() {
        let ledger = Arc::new(Ledger::new(4));
        let acting = |name: &str| of("acme", Principal::ServiceFor(UserId::new(name)));
        let _held = enter(&ledger, &acting("ann")).expect("a place");
        assert!(matches!(enter(&ledger, &acting("bob")), Err(Full::Caller)));
        assert!(matches!(enter(&ledger, &of("acme", Principal::Service)), Err(Full::Caller)));
        assert!(enter(&ledger, &of("acme", user("ann"))).is_ok());
    }

    #[tokio::test]
    async fn bytes_are_bounded_per_connection_caller_tenant_and_in_all() {
        let ledger = Arc::new(Ledger::new(8));
        let account = |tenant: &str, name: &str, line: &Arc<Line>| {
            ledger.account(Some(&of(tenant, user(name))), Some(Arc::clone(line)))
        };
        let mut held = Vec::new();
        // As many on lines of their own as fit, in pieces of 8 MiB.
        let mut fill = |tenant: &str, name: &str| {
            let mut count = 0;
            while let Some(bytes) = account(tenant, name, &line()).hold(OF_LINE) {
                held.push(bytes);
                count += 1;
            }
            count
        };
        assert_eq!(fill("acme", "ann"), OF_CALLER / OF_LINE);
        assert_eq!(fill("acme", "bob"), OF_CALLER / OF_LINE);
        // What is alone is taken, but only where its tenant has room.
        assert_eq!(fill("acme", "eve"), 0);
        let others: usize = (0..9).map(|tenant| fill(&format!("other-{tenant}"), "ann")).sum();
        assert_eq!(others, (OF_ALL - OF_TENANT) / OF_LINE);
        held.clear();
        assert!(ledger.is_empty());

        let line = line();
        let first = account("acme", "ann", &line).hold(OF_LINE + 1).expect("alone");
        assert!(account("acme", "bob", &line).hold(1).is_none());
        drop(first);
        assert!(account("acme", "bob", &line).hold(1).is_some());
        assert_eq!(line.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn the_suite_itself_has_only_the_bound_of_all_calls() {
        let ledger = Arc::new(Ledger::new(4));
        let internal = of("acme", Principal::Internal(None));
        let held: Vec<_> = (0..4).map(|_| enter(&ledger, &internal).expect("a place")).collect();
        assert!(matches!(enter(&ledger, &internal), Err(Full::All)));
        assert!(ledger.account(Some(&internal), None).hold(OF_ALL + 1).is_some());
        drop(held);
        assert!(ledger.is_empty());
    }
}
