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
    pub(super) receipts: BTreeMap<(LogId, UserId), (Seq, Seq)>,
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

    /// Marks only rise, so the greatest is the latest.
    pub(super) fn receipt(&self, log_id: LogId, receipt: &Receipt) {
        let mut mail = lock(&self.mail);
        let key = (log_id, receipt.user_id.clone());
        let has_room = mail.receipts.len() < NOTICES;
        match mail.receipts.get_mut(&key) {
            Some((read, delivered)) => {
                *read = receipt.read.max(*read);
                *delivered = receipt.delivered.max(*delivered);
            }
            None if has_room => {
                mail.receipts.insert(key, (receipt.read, receipt.delivered));
            }
            None => {}
        }
        drop(mail);
        self.notify.notify_one();
    }

    /// The latest is what counts.
    pub(super) fn typing(&self, log_id: LogId, typing: &Typing) {
        let mut mail = lock(&self.mail);
        let key = (log_id, typing.user_id.clone());
        if mail.typing.len() < NOTICES || mail.typing.contains_key(&key) {
            mail.typing.insert(key, typing.until);
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
