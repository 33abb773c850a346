//! How a node tells a stream that there is something for it. Bounded: a room is
//! in it once, a notice takes the place of the one before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use parlance_types::{LogId, Seq, UserId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lock;

/// Notices of a kind that wait for one stream; more are dropped, as notices may be.
const NOTICES: usize = 1024;

/// How far a member has come in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub user_id: UserId,
    pub read: Seq,
    pub delivered: Seq,
}

impl Receipt {
    /// Marks only rise, so the greatest are the latest.
    pub(super) fn raised_to(&self, other: &Self) -> Self {
        let (read, delivered) = (self.read.max(other.read), self.delivered.max(other.delivered));
        Self { user_id: self.user_id.clone(), read, delivered }
    }
}

/// A member is typing, or stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typing {
    pub user_id: UserId,
    /// When the member stops, unless told again; `None`: has stopped.
    pub until: Option<Instant>,
}

/// What waits for a stream.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    notify: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Logs that have something to pull.
    pub(super) ready: VecDeque<LogId>,
    /// Whether the user's list of rooms may have changed.
    pub(super) rooms_changed: bool,
    pub(super) receipts: BTreeMap<(LogId, UserId), Receipt>,
    pub(super) typing: BTreeMap<(LogId, UserId), Option<Instant>>,
}

impl Mailbox {
    pub(super) fn ready(&self, log_id: LogId) {
        lock(&self.mail).ready.push_back(log_id);
        self.notify.notify_one();
    }

    pub(super) fn rooms_changed(&self) {
        lock(&self.mail).rooms_changed = true;
        self.notify.notify_one();
    }

    pub(super) fn receipts(&self, receipts: &[(LogId, Receipt)]) {
        let mut mail = lock(&self.mail);
        for (log_id, receipt) in receipts {
            let key = (*log_id, receipt.user_id.clone());
            let latest = match mail.receipts.get(&key) {
                Some(before) => before.raised_to(receipt),
                None if mail.receipts.len() < NOTICES => receipt.clone(),
                None => continue,
            };
            mail.receipts.insert(key, latest);
        }
        drop(mail);
        self.notify.notify_one();
    }

    /// The latest is what counts.
    pub(super) fn typing(&self, typing: &[(LogId, Typing)]) {
        let mut mail = lock(&self.mail);
        for (log_id, typing) in typing {
            let key = (*log_id, typing.user_id.clone());
            if mail.typing.len() < NOTICES || mail.typing.contains_key(&key) {
                mail.typing.insert(key, typing.until);
            }
        }
        drop(mail);
        self.notify.notify_one();
    }

    pub(super) fn take(&self) -> Mail {
        std::mem::take(&mut *lock(&self.mail))
    }

    /// Waits for mail; returns at once if some came since the last wait.
    pub(super) async fn wait(&self) {
        self.notify.notified().await;
    }
}
