//! How a node tells a stream that there is something for it. Bounded: a room is
//! in it once, a notice takes the place of the one before.
//!
//! ```text
//! writers, bus, checks                             the stream, as it is read
//!   room 7 has events  -->  ready: 7               takes all that is there, then
//!   room 3 has events  -->  ready: 7, 3            pulls from rooms 7 and 3
//!   room 7 goes on          (7 was woken and has   itself: as many events as the
//!                            not pulled since)     chunk holds, however many came
//!   ann reads 8        -->  notices: ann 8
//!   ann reads 9        -->  notices: ann 9         tells 9
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;
use parlance_types::LogId;

use super::lock;
use super::notice::{self, Notice, Waiting};

/// Notices of a kind that wait for one stream; more are dropped, as notices may be.
const NOTICES: usize = 1024;

/// The things that wait for a stream, and how far it has come with them.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    reader: AtomicWaker,
    /// How often the stream has looked.
    looks: AtomicU64,
    /// It found nothing when it looked last.
    idle: AtomicBool,
    /// Nobody has read the stream for too long.
    stalled: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Logs that have something to pull.
    pub(super) ready: VecDeque<LogId>,
    /// The user's list of rooms may have changed.
    pub(super) rooms_changed: bool,
    /// By kind.
    notices: BTreeMap<u32, Waiting>,
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

    pub(super) fn notices(&self, notices: &[(LogId, Notice)]) {
        let mut mail = lock(&self.mail);
        for (log_id, notice) in notices {
            let waiting = mail.notices.entry(notice.key.kind).or_default();
            notice::put(waiting, NOTICES, *log_id, notice);
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

    /// Says if the stream was told to go.
    pub(super) fn is_given_up(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && !self.rooms_changed && self.notices.is_empty()
    }

    /// Notices and their logs.
    pub(super) fn notices(self) -> impl Iterator<Item = (LogId, Notice)> {
        let waiting = self.notices.into_values().flatten();
        waiting.map(|((log_id, _), notice)| (log_id, notice))
    }
}
