//! The logs that the streams of a node follow, and how the node keeps up with them.

mod attach;
mod head_check;
mod hints;
mod notices;
mod read;
mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use moka::future::Cache;
use parlance_bus::Bus;
use parlance_log::{Appended, Publish, Store};
use parlance_rpc::Tasks;
use parlance_types::{Clock, LogId, TenantId, UserId};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

pub(super) use self::attach::{Attached, Target};
use self::notices::Notices;
use super::blocks::{Block, BlockId};
use super::budget::Budget;
use super::entry::Place;
use super::failure::TooManyStreams;
use super::log::{LogState, SubscriptionId};
use super::mailbox::Mailbox;
use super::notice::Notice;
use super::present::Presents;
use super::subscriber::Follow;
use super::told::Told;
use super::{Options, lock};

/// Follows logs for the streams of one node.
#[derive(Clone, Debug)]
pub struct Hub(pub(super) Arc<Inner>);

/// How often the read path had to help itself.
#[derive(Debug, Default)]
pub struct Counters {
    /// Hints in front of which events were missing.
    pub gaps: AtomicU64,
    /// Gaps that were given time for a crossing hint.
    pub reorder_waited: AtomicU64,
    /// Gaps that the wait did not close, and the database did.
    pub gaps_healed: AtomicU64,
    /// Logs that a head check found behind.
    pub head_check_healed: AtomicU64,
    /// Users whose list of rooms a head check found out of date.
    pub users_healed: AtomicU64,
    /// Blocks read from the database for streams that are behind their ring.
    pub blocks_read: AtomicU64,
    /// Rings dropped because history may have been rewound.
    pub rings_dropped: AtomicU64,
    /// Cursors that could not be honoured.
    pub resets: AtomicU64,
    /// Times the bus said that it may have lost something.
    pub disturbed: AtomicU64,
    /// Times heads were looked at because the bus was away.
    pub polled: AtomicU64,
    /// Streams ended because nobody read them.
    pub stalled: AtomicU64,
    /// Events given to streams.
    pub delivered: AtomicU64,
    /// Notices given to streams.
    pub noticed: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// Tells this node's hints from others'.
    node: u64,
    pub(super) options: Options,
    pub(super) counters: Counters,
    bus: Arc<dyn Bus>,
    started: OnceLock<Started>,
    logs: RwLock<HashMap<LogId, Arc<Log>>>,
    generations: Arc<AtomicU64>,
    budget: Arc<Budget>,
    blocks: Cache<(LogId, BlockId), Arc<Block>>,
    users: Mutex<HashMap<(TenantId, UserId), Follower>>,
    /// How many streams each has open.
    streams: Mutex<HashMap<(TenantId, Holder), usize>>,
    /// Every open stream.
    reading: Mutex<HashMap<u64, Reading>>,
    next_stream: AtomicU64,
    pub(crate) clock: Arc<dyn Clock>,
    /// The greatest rank of a notice that was said or heard here.
    latest: AtomicI64,
    notices: Mutex<Notices>,
    notices_due: Notify,
    check_now: Notify,
}

/// The parts that a hub has once it follows logs.
#[derive(Debug)]
struct Started {
    store: Store,
    presents: Arc<dyn Presents>,
    runtime: Handle,
    /// Turns of streams, and of what heals for them, at the connections that read: the
    /// other half is left to those who call.
    turns: Semaphore,
}

/// A log in use.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) place: Arc<Place>,
    state: Mutex<LogState<Arc<Mailbox>>>,
    /// Locked before the state, where both are.
    told: Mutex<Told>,
    /// Held by the one who heals.
    healing: tokio::sync::Mutex<()>,
    heal_planned: AtomicBool,
    unused_since: Mutex<Option<Instant>>,
}

/// The streams of one user, or those of a tenant that follow all rooms, whoever's they are.
#[derive(Debug, Default)]
struct Follower {
    mailboxes: HashMap<u64, Arc<Mailbox>>,
    /// How often the user's access was changed, as of the last check.
    seen: Option<i64>,
}

/// A stream's interest in a log; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) log: Arc<Log>,
    pub(super) id: SubscriptionId,
}

/// How a stream is being read.
#[derive(Debug)]
struct Reading {
    mailbox: Arc<Mailbox>,
    /// How often it had looked for mail when it was last seen to go on, and when that was.
    looks: u64,
    since: Instant,
}

/// An open stream, counted until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    hub: Arc<Inner>,
    id: u64,
    tenant_id: TenantId,
    of: Vec<Holder>,
}

/// Whose streams are counted together, within a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    User(UserId),
    /// Those that act for nobody.
    Nobody,
    /// A service, whoever it acts for: it may name as many users as it likes.
    Service(String),
}

/// A stream's interest in the list of its user's rooms; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Following {
    hub: Arc<Inner>,
    id: u64,
    of: Vec<(TenantId, UserId)>,
}

impl Hub {
    /// A hub that hears of commits but does not follow logs until it is started.
    pub fn new(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>, options: Options) -> Self {
        let weight = |_: &(LogId, BlockId), block: &Arc<Block>| {
            u32::try_from(block.bytes()).unwrap_or(u32::MAX)
        };
        let blocks = Cache::builder().weigher(weight).max_capacity(options.block_cache).build();
        Self(Arc::new(Inner {
            node: rand::random(),
            budget: Arc::new(Budget::new(options.ring_budget)),
            options,
            counters: Counters::default(),
            bus,
            started: OnceLock::new(),
            logs: RwLock::default(),
            generations: Arc::default(),
            blocks,
            users: Mutex::default(),
            streams: Mutex::default(),
            reading: Mutex::default(),
            next_stream: AtomicU64::default(),
            clock,
            latest: AtomicI64::default(),
            notices: Mutex::default(),
            notices_due: Notify::new(),
            check_now: Notify::new(),
        }))
    }

    /// Takes commits from the store's writers. Does not keep the hub alive.
    pub fn publisher(&self) -> Publish {
        let hub: Weak<Inner> = Arc::downgrade(&self.0);
        Arc::new(move |batch: Vec<Appended>| {
            if let Some(hub) = hub.upgrade() {
                hub.publish(&batch);
            }
        })
    }

    /// Starts following logs, until the tasks stop. To be called once.
    pub fn start(&self, store: Store, presents: Arc<dyn Presents>, tasks: &Tasks) {
        let hub = &self.0;
        let half = store.db().read_connections() / 2;
        let turns = Semaphore::new(half.clamp(1, Semaphore::MAX_PERMITS));
        let started = Started { store, presents, runtime: Handle::current(), turns };
        if hub.started.set(started).is_err() {
            return;
        }
        let heard = hub.bus.subscribe();
        let (listen, check) = (Arc::clone(hub).listen(heard), Arc::clone(hub).check());
        let tell = Arc::clone(hub).tell_notices();
        tasks.until_stop("listener", listen);
        tasks.until_stop("head check", check);
        tasks.until_stop("notices", tell);
    }

    /// Tells the streams of a room, on every node, of something that passes.
    pub fn tell(&self, log_id: LogId, notice: Notice) {
        self.0.tell(log_id, notice);
    }

    /// How often the read path had to help itself.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        lock(&self.0.reading).len()
    }

    /// How many logs are in memory.
    pub fn logs(&self) -> usize {
        self.0.logs.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many bytes of events the rings hold.
    pub fn ring_bytes(&self) -> usize {
        self.0.budget.held()
    }

    /// A number that tells this node from others; another one after every start.
    pub fn node(&self) -> u64 {
        self.0.node
    }

    /// Says if the bus carries hints at present.
    pub fn bus_is_up(&self) -> bool {
        self.0.bus_is_up()
    }

    /// Hints of this node that the bus dropped.
    pub fn hints_dropped(&self) -> u64 {
        self.0.bus.dropped()
    }
}

impl Inner {
    /// Counts a stream; it may be one too many.
    pub(super) fn open_stream(
        self: &Arc<Self>,
        follow: &Follow,
        mailbox: &Arc<Mailbox>,
    ) -> Result<OpenStream, TooManyStreams> {
        let Options { streams_per_user, streams_for_nobody, streams_per_service, .. } =
            self.options;
        let user = match follow.user.clone() {
            Some(user) => (Holder::User(user), streams_per_user),
            None => (Holder::Nobody, streams_for_nobody),
        };
        let service = follow.service.clone();
        let service = service.map(|service| (Holder::Service(service), streams_per_service));
        let tenant_id = follow.tenant_id.clone();
        let mut streams = lock(&self.streams);
        let mut of = Vec::new();
        for (holder, most) in std::iter::once(user).chain(service) {
            let open = streams.get(&(tenant_id.clone(), holder.clone())).copied();
            if open.unwrap_or_default() >= most {
                return Err(TooManyStreams);
            }
            of.push(holder);
        }
        for holder in &of {
            *streams.entry((tenant_id.clone(), holder.clone())).or_default() += 1;
        }
        drop(streams);
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let reading = Reading { mailbox: Arc::clone(mailbox), looks: 0, since: Instant::now() };
        lock(&self.reading).insert(id, reading);
        Ok(OpenStream { hub: Arc::clone(self), id, tenant_id, of })
    }

    /// Has heads looked at soon.
    pub(super) fn suspect(&self) {
        self.check_now.notify_one();
    }

    /// How long a client is asked to wait before it comes again.
    pub(super) fn go_away_after(&self) -> Duration {
        rand::random_range(Duration::ZERO..=self.options.go_away_after)
    }

    /// Hears from now on when the list of rooms of one of these users changes.
    pub(super) fn follow_rooms(
        self: &Arc<Self>,
        tenant_id: &TenantId,
        users: impl IntoIterator<Item = UserId>,
        mailbox: &Arc<Mailbox>,
    ) -> Following {
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let of: Vec<_> = users.into_iter().map(|user| (tenant_id.clone(), user)).collect();
        let mut users = lock(&self.users);
        for user in &of {
            let follower = users.entry(user.clone()).or_default();
            follower.mailboxes.insert(id, Arc::clone(mailbox));
        }
        drop(users);
        Following { hub: Arc::clone(self), id, of }
    }

    /// Registers interest in a log.
    pub(super) fn subscribe(
        &self,
        place: Place,
        mailbox: Arc<Mailbox>,
        user: Option<UserId>,
    ) -> Subscription {
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        let log = logs.entry(place.log_id).or_insert_with(|| {
            let place = Arc::new(place);
            let (budget, generations) = (Arc::clone(&self.budget), Arc::clone(&self.generations));
            let state = LogState::new(Arc::clone(&place), self.options.ring, budget, generations);
            Arc::new(Log {
                place,
                state: Mutex::new(state),
                told: Mutex::default(),
                healing: tokio::sync::Mutex::default(),
                heal_planned: AtomicBool::default(),
                unused_since: Mutex::default(),
            })
        });
        // Under the lock of the registry, so that the log is not dropped meanwhile.
        let id = lock(&log.state).subscribe(mailbox, user);
        Subscription { log: Arc::clone(log), id }
    }

    fn log(&self, log_id: LogId) -> Option<Arc<Log>> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.get(&log_id).map(Arc::clone)
    }

    fn logs_in_use(&self) -> Vec<Arc<Log>> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.values().map(Arc::clone).collect()
    }

    /// Gives up the streams that have something to read which nobody has read for too
    /// long.
    fn give_up_stalled(&self) {
        for reading in lock(&self.reading).values_mut() {
            match reading.mailbox.owing() {
                Some(looks) if looks == reading.looks => {
                    if reading.since.elapsed() >= self.options.stall && reading.mailbox.give_up() {
                        count(&self.counters.stalled);
                    }
                }
                looks => {
                    reading.looks = looks.unwrap_or(reading.looks);
                    reading.since = Instant::now();
                }
            }
        }
    }

    /// Drops the rings that no stream has used for a while; the others shrink where the
    /// node has no room for them.
    fn sweep(&self) {
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        logs.retain(|_, log| {
            let mut state = lock(&log.state);
            state.shrink();
            let unused = state.is_unused();
            drop(state);
            let since = *lock(&log.unused_since);
            !unused || since.is_none_or(|since| since.elapsed() < self.options.ring_linger)
        });
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        lock(&self.hub.reading).remove(&self.id);
        let mut streams = lock(&self.hub.streams);
        for holder in self.of.drain(..) {
            let key = (self.tenant_id.clone(), holder);
            if let Some(open) = streams.get_mut(&key) {
                *open -= 1;
                if *open == 0 {
                    streams.remove(&key);
                }
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut users = lock(&self.hub.users);
        for user in &self.of {
            if let Some(follower) = users.get_mut(user) {
                follower.mailboxes.remove(&self.id);
                if follower.mailboxes.is_empty() {
                    users.remove(user);
                }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = lock(&self.log.state);
        state.unsubscribe(self.id);
        if state.is_unused() {
            *lock(&self.log.unused_since) = Some(Instant::now());
        }
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
