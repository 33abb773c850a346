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

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;

use bytes::Bytes;
use futures::task::AtomicWaker;
use parlance_log::EpochId;
use parlance_proto::frame::Frame;
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
    /// Values of rooms that begin, in the epoch that they hold in: older than notices.
    pub(super) presents: Vec<(LogId, EpochId, Frame)>,
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

    /// Takes the values of a room that the stream begins with, at most once for each time
    /// that it asks. They are told in front of all notices, so those that wait and are of
    /// a lesser rank go.
    pub(super) fn present<'a>(
        &self,
        log_id: LogId,
        epoch: EpochId,
        frame: Frame,
        kind: u32,
        values: impl Iterator<Item = &'a (Bytes, i64)>,
    ) {
        let mut mail = lock(&self.mail);
        mail.presents.push((log_id, epoch, frame));
        if let Some(waiting) = mail.notices.get_mut(&kind) {
            for (about, rank) in values {
                if let Entry::Occupied(waits) = waiting.entry((log_id, about.clone()))
                    && waits.get().rank().is_some_and(|waits| waits < *rank)
                {
                    waits.remove();
                }
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

    /// Says if the stream was told to go.
    pub(super) fn is_given_up(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.ready.is_empty()
            && !self.rooms_changed
            && self.presents.is_empty()
            && self.notices.is_empty()
    }

    /// Notices and their logs.
    pub(super) fn notices(self) -> impl Iterator<Item = (LogId, Notice)> {
        let waiting = self.notices.into_values().flatten();
        waiting.map(|((log_id, _), notice)| (log_id, notice))
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker;
    use uuid::Uuid;

    use super::*;
    use crate::notice::{Key, Merge, Span};

    #[test]
    fn values_of_a_room_that_begins_come_first_and_nothing_less_follows() {
        let (mailbox, log_id) = (Mailbox::default(), LogId(Uuid::from_u128(1)));
        let ranks = [("ann", 7), ("bob", 8), ("cid", 9)];
        let about = |user: &'static str| Bytes::from_static(user.as_bytes());
        let notice = |(user, rank)| {
            let (key, frame) = (Key { kind: 2, about: about(user) }, Frame::default());
            let (merge, span) = (Merge::Greatest(rank), Span::Moment);
            (log_id, Notice { key, frame, merge, span, by: None, to: None, epoch: None })
        };
        mailbox.notices(&ranks.map(notice));
        let values = ranks.map(|(user, _)| (about(user), 8));
        let frame = Frame::from_encoded(about("marks"));
        mailbox.present(log_id, EpochId::default(), frame, 2, values.iter());
        let waker = noop_waker();
        let mail = mailbox.take(&mut VecDeque::new(), &Context::from_waker(&waker));
        assert_eq!(mail.presents.len(), 1);
        let left: Vec<_> = mail.notices().map(|(_, notice)| notice.key.about).collect();
        assert_eq!(left, [about("bob"), about("cid")]);
    }
}
