//! Who read what and who is typing: the latest of each, told to the streams of this
//! node and to the other nodes in batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parlance_types::{LogId, UserId};
use tokio::time::{Instant, sleep, sleep_until};

use super::Inner;
use super::hints::{self, Hints};
use crate::domain::RoomKind;
use crate::stream::lock;
use crate::stream::mailbox::{Mailbox, Receipt, Typing};

/// Notices of a kind that wait to be told, and that are remembered; more are dropped, as
/// notices may be.
const NOTICES: usize = 4096;

/// The time between two batches.
const PAUSE: Duration = Duration::from_millis(50);

/// For how long notices are remembered, to be told again after a disturbance.
const RECENT: Duration = Duration::from_secs(30);

/// The time between two times that they are told again.
const AGAIN: Duration = Duration::from_secs(3);

/// What the users of this node did.
#[derive(Debug, Default)]
pub(super) struct Notices {
    receipts: Latest<Receipt>,
    typing: Latest<Typing>,
    /// Whether the other nodes may have missed what is remembered.
    again: bool,
}

/// The latest of each member.
#[derive(Debug)]
struct Latest<T> {
    fresh: BTreeMap<(LogId, UserId), T>,
    recent: BTreeMap<(LogId, UserId), (Instant, T)>,
}

/// Notices, those of a log one after the other.
type Told<T> = Vec<(LogId, T)>;

impl Inner {
    pub(super) fn notify(&self, log_id: LogId, receipt: &Receipt) {
        self.say(|notices| {
            // Marks only rise, but those who moved them may come here in any order.
            notices.receipts.put(log_id, receipt.user_id.clone(), |before| match before {
                Some(before) => before.raised_to(receipt),
                None => receipt.clone(),
            });
        });
    }

    pub(super) fn typing(&self, log_id: LogId, typing: &Typing) {
        self.say(|notices| {
            notices.typing.put(log_id, typing.user_id.clone(), |_| typing.clone());
        });
    }

    /// After a disturbance: the others may have missed what was told lately.
    pub(super) fn tell_notices_again(&self) {
        self.say(|notices| notices.again = true);
    }

    fn say(&self, say: impl FnOnce(&mut Notices)) {
        say(&mut lock(&self.notices));
        self.notices_due.notify_one();
    }

    /// Tells notices as they come, what comes together in one batch.
    pub(super) async fn tell_notices(self: Arc<Self>) {
        let mut next_again = Instant::now();
        loop {
            let again = lock(&self.notices).again;
            tokio::select! {
                () = self.notices_due.notified() => {}
                () = sleep_until(next_again), if again => {}
            }
            if self.tell_batch(Instant::now() >= next_again) {
                next_again = Instant::now() + AGAIN;
            }
            sleep(PAUSE).await;
        }
    }

    /// Says whether everything recent was among it, which it is if it is due and `may_be`.
    fn tell_batch(&self, may_be: bool) -> bool {
        let mut notices = lock(&self.notices);
        let again = may_be && std::mem::take(&mut notices.again);
        let (receipts, receipts_there) = notices.receipts.take(again);
        let (typing, typing_there) = notices.typing.take(again);
        drop(notices);
        self.deliver_receipts(&receipts);
        self.deliver_typing(&typing);
        if self.bus_is_up() && self.bus.reaches_others() {
            for (shard, payload) in hints::of_notices(self.node, receipts_there, typing_there) {
                self.bus.publish_notice(shard, payload);
            }
        }
        again
    }

    pub(super) fn take_notices(&self, hints: &Hints) {
        let receipts = hints.receipts.iter().filter_map(hints::ReceiptHint::receipt);
        self.deliver_receipts(&receipts.collect::<Vec<_>>());
        let typing = hints.typing.iter().filter_map(hints::TypingHint::typing);
        self.deliver_typing(&typing.collect::<Vec<_>>());
    }

    fn deliver_receipts(&self, receipts: &[(LogId, Receipt)]) {
        for of_log in receipts.chunk_by(|a, b| a.0 == b.0) {
            self.readers(of_log[0].0).iter().for_each(|mailbox| mailbox.receipts(of_log));
        }
    }

    fn deliver_typing(&self, typing: &[(LogId, Typing)]) {
        for of_log in typing.chunk_by(|a, b| a.0 == b.0) {
            self.readers(of_log[0].0).iter().for_each(|mailbox| mailbox.typing(of_log));
        }
    }

    /// The streams of a room that get notices: none in channels.
    fn readers(&self, log_id: LogId) -> Vec<Arc<Mailbox>> {
        let Some(log) = self.log(log_id) else { return Vec::new() };
        let state = lock(&log.state);
        if matches!(state.kind(), Some(RoomKind::Direct | RoomKind::Group)) {
            state.wakers().map(Arc::clone).collect()
        } else {
            Vec::new()
        }
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { fresh: BTreeMap::new(), recent: BTreeMap::new() }
    }
}

impl<T: Clone> Latest<T> {
    fn put(&mut self, log_id: LogId, user_id: UserId, latest: impl FnOnce(Option<&T>) -> T) {
        let key = (log_id, user_id);
        let before = self.fresh.get(&key);
        if before.is_some() || self.fresh.len() < NOTICES {
            let latest = latest(before);
            self.fresh.insert(key, latest);
        }
    }

    /// What is new, and what the other nodes are to be told: the same, or everything that
    /// is remembered.
    fn take(&mut self, again: bool) -> (Told<T>, Told<T>) {
        let (now, fresh) = (Instant::now(), std::mem::take(&mut self.fresh));
        self.recent.retain(|_, (since, _)| now - *since < RECENT);
        if self.recent.len() + fresh.len() > NOTICES {
            self.recent.clear();
        }
        let fresh = fresh.into_iter().map(|(key, notice)| {
            let log_id = key.0;
            self.recent.insert(key, (now, notice.clone()));
            (log_id, notice)
        });
        let fresh: Told<T> = fresh.collect();
        let all = || self.recent.iter().map(|((log_id, _), (_, notice))| (*log_id, notice.clone()));
        let there = if again { all().collect() } else { fresh.clone() };
        (fresh, there)
    }
}
