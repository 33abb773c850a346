//! How a node tells a stream that there is something for it. Bounded: a room is
//! in it once, a notice takes the place of the one before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;
use parlance_types::{LogId, Seq, UserId};
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

/// What waits for a stream, and how far it has come with it.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    reader: AtomicWaker,
    /// How often the stream has looked.
    looks: AtomicU64,
    /// Whether it found nothing when it looked last.
    idle: AtomicBool,
    /// Whether nobody has read the stream for too long.
    stalled: AtomicBool,
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
        self.reader.wake();
    }

    pub(super) fn rooms_changed(&self) {
        lock(&self.mail).rooms_changed = true;
        self.reader.wake();
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
        self.reader.wake();
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
        self.reader.wake();
    }

    /// Takes what is there; whoever looks is woken when more comes.
    /// `ready` comes empty and changes places with the logs that have something.
    pub(super) fn take(&self, ready: &mut VecDeque<LogId>, context: &Context<'_>) -> Mail {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.idle.store(false, Ordering::Relaxed);
        self.reader.register(context.waker());
        let mut mail = lock(&self.mail);
        std::mem::swap(&mut mail.ready, ready);
        let empty = Mail { ready: std::mem::take(&mut mail.ready), ..Mail::default() };
        std::mem::replace(&mut mail, empty)
    }

    /// Nothing was there, and the reader has everything that was.
    pub(super) fn rest(&self) {
        self.idle.store(true, Ordering::Relaxed);
    }

    /// How often the stream has looked, if there is something that it should look for.
    pub(super) fn owing(&self) -> Option<u64> {
        let owing = !self.idle.load(Ordering::Relaxed) || !lock(&self.mail).is_empty();
        owing.then(|| self.looks.load(Ordering::Relaxed))
    }

    /// Tells the stream to go, when it is read again; false if it was told before.
    pub(super) fn give_up(&self) -> bool {
        !self.stalled.swap(true, Ordering::Relaxed)
    }

    /// Whether the stream was told to go.
    pub(super) fn is_given_up(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.ready.is_empty()
            && !self.rooms_changed
            && self.receipts.is_empty()
            && self.typing.is_empty()
    }
}
