//! Notices that nouns of this node make: told to the streams of this node and to the other
//! nodes in batches, at most 20 a second. Of each key the latest, however often it changed.
//!
//! ```text
//! ms   0  ann reads 7      batch: ann 7
//!     10  ann reads 8      waits
//!     20  ann reads 9      takes the place of 8
//!     50                   batch: ann 9
//!   5000  a disturbance    the other nodes may have missed ann 9: what was told in the last
//!                          30 s goes along with the next batch, at most every 3 s
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parlance_types::LogId;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Inner, wire};
use crate::failure::Unavailable;
use crate::lock;
use crate::mailbox::Mailbox;
use crate::notice::{self, Merge, Notice, Waiting};
use crate::present::Present;

/// Notices of a kind that wait to be told, and that are remembered; more are dropped, as
/// notices may be.
const NOTICES: usize = 4096;

/// The time between two batches.
const PAUSE: Duration = Duration::from_millis(50);

/// For how long notices are remembered, to be told again after a disturbance.
const RECENT: Duration = Duration::from_secs(30);

/// The time between two times that they are told again.
const AGAIN: Duration = Duration::from_secs(3);

/// The notices of this node, by kind.
#[derive(Debug, Default)]
pub(super) struct Notices {
    kinds: BTreeMap<u32, Kind>,
    /// The other nodes may have missed what is remembered.
    missed: bool,
}

/// The notices of a kind.
#[derive(Debug, Default)]
struct Kind {
    fresh: Waiting,
    /// Notices that were told lately, and when.
    recent: BTreeMap<(LogId, Bytes), (Instant, Notice)>,
}

/// Notices that are told together, those of a log one after the other.
#[derive(Debug)]
struct Batch {
    /// To the streams of this node.
    here: Vec<(LogId, Notice)>,
    /// To the other nodes: the same, or also what is remembered.
    there: Vec<(LogId, Notice)>,
}

impl Inner {
    /// Tells the streams of a room, on every node.
    pub(super) fn tell(&self, log_id: LogId, mut notice: Notice) {
        if notice.merge == Merge::Latest {
            notice.merge = Merge::Greatest(self.later());
        }
        lock(&self.notices).put(log_id, notice);
        self.notices_due.notify_one();
    }

    /// After a disturbance: the others may have missed what was told lately.
    pub(super) fn tell_notices_again(&self) {
        lock(&self.notices).missed = true;
        self.notices_due.notify_one();
    }

    /// Tells notices as they come, what comes together in one batch.
    pub(super) async fn tell_notices(self: Arc<Self>) {
        let mut next_again = Instant::now();
        loop {
            let missed = lock(&self.notices).missed;
            tokio::select! {
                () = self.notices_due.notified() => {}
                () = sleep_until(next_again), if missed => {}
            }
            let again =
                Instant::now() >= next_again && std::mem::take(&mut lock(&self.notices).missed);
            if again {
                next_again = Instant::now() + AGAIN;
            }
            let batch = lock(&self.notices).take(again);
            self.deliver(&batch.here);
            if self.bus_is_up() && self.bus.reaches_others() {
                for (shard, payload) in wire::of_notices(self.node, &batch.there) {
                    self.bus.publish_notice(shard, payload);
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Puts notices into the mailboxes of this node, unless they are told already, or
    /// something later is.
    pub(super) fn deliver(&self, notices: &[(LogId, Notice)]) {
        for of_log in notices.chunk_by(|a, b| a.0 == b.0) {
            let Some(log) = self.log(of_log[0].0) else { continue };
            // Until they are in the mailboxes, so that none comes behind a later one.
            let mut told = lock(&log.told);
            let state = lock(&log.state);
            let is_news = |(_, notice): &&(_, Notice)| state.admits(notice) && told.hear(notice);
            let news: Vec<_> = of_log.iter().filter(is_news).cloned().collect();
            if news.is_empty() {
                continue;
            }
            let mailboxes = |part: &[(_, Notice)]| -> Vec<_> {
                state.wakers(part[0].1.to.as_deref()).map(Arc::clone).collect()
            };
            let parts = news.chunk_by(|(_, a), (_, b)| a.to == b.to);
            let parts: Vec<_> = parts.map(|part| (part, mailboxes(part))).collect();
            drop(state);
            for (part, mailboxes) in parts {
                for mailbox in mailboxes {
                    mailbox.notices(part);
                }
            }
        }
    }

    /// Tells a stream that has begun in these rooms what goes on there, and their present
    /// values.
    pub(crate) async fn tell_present(
        &self,
        mailbox: &Mailbox,
        log_ids: &[LogId],
    ) -> Result<(), Unavailable> {
        for log in log_ids.iter().filter_map(|log_id| self.log(*log_id)) {
            let told = lock(&log.told);
            let ongoing = told.ongoing().map(|notice| (log.place.log_id, notice.clone()));
            let ongoing: Vec<_> = ongoing.collect();
            if !ongoing.is_empty() {
                mailbox.notices(&ongoing);
            }
        }
        for present in self.ask_in_turn(self.presents()?.read(log_ids)).await? {
            let Some(log) = self.log(present.log_id) else { continue };
            let mut told = lock(&log.told);
            // In another epoch the stream begins again, and asks again.
            if !lock(&log.state).is_of(Some(&present.epoch)) {
                continue;
            }
            let shown = told.show(&present.epoch, present.kind, &present.values);
            if shown.contains(&true) {
                let Present { log_id, epoch, kind, values, frame } = present;
                let frame = frame(&log.place.room_id, &shown);
                let values = values.iter().zip(&shown).filter(|(_, shown)| **shown);
                let values = values.map(|(value, _)| value);
                mailbox.present(log_id, epoch, frame, kind, values);
            }
        }
        Ok(())
    }

    /// A rank above that of everything that this node has said or heard.
    fn later(&self) -> i64 {
        let now = self.clock.now();
        let later = |last: i64| Some(now.max(last.saturating_add(1)));
        let (set, fetched) = (Ordering::Relaxed, Ordering::Relaxed);
        let last = self.latest.fetch_update(set, fetched, later).unwrap_or_default();
        now.max(last.saturating_add(1))
    }

    /// Takes the ranks that other nodes give.
    pub(super) fn heed(&self, notices: &[(LogId, Notice)]) {
        let greatest = notices.iter().filter_map(|(_, notice)| notice.rank()).max();
        self.latest.fetch_max(greatest.unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Notices {
    fn put(&mut self, log_id: LogId, mut notice: Notice) {
        if notice.merge == Merge::Each {
            notice.key.about = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        }
        let kind = self.kinds.entry(notice.key.kind).or_default();
        notice::put(&mut kind.fresh, NOTICES, log_id, &notice);
    }

    /// Takes what waits; for the other nodes with all that is remembered, if `again`.
    fn take(&mut self, again: bool) -> Batch {
        let here: Vec<_> = self.kinds.values_mut().flat_map(Kind::take).collect();
        if !again {
            return Batch { there: here.clone(), here };
        }
        let once = here.iter().filter(|(_, notice)| notice.merge == Merge::Each).cloned();
        let recent = self.kinds.values().flat_map(|kind| &kind.recent);
        let recent = recent.map(|((log_id, _), (_, notice))| (*log_id, notice.clone()));
        Batch { there: once.chain(recent).collect(), here }
    }
}

impl Kind {
    /// Takes what waits, and remembers it.
    fn take(&mut self) -> Vec<(LogId, Notice)> {
        let now = Instant::now();
        self.recent.retain(|_, (since, _)| now - *since < RECENT);
        if self.recent.len() + self.fresh.len() > NOTICES {
            self.recent.clear();
        }
        let fresh = std::mem::take(&mut self.fresh);
        let taken = fresh.iter().map(|((log_id, _), notice)| (*log_id, notice.clone())).collect();
        for (key, notice) in fresh {
            // What is told again is the latest too.
            let stale = self.recent.get(&key).is_some_and(|(_, last)| !notice.replaces(last));
            if notice.merge != Merge::Each && !stale {
                self.recent.insert(key, (now, notice));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use parlance_proto::frame::Frame;
    use uuid::Uuid;

    use super::*;
    use crate::notice::{Key, Span};

    /// Says notices of one key; what the streams here, and the other nodes, are told of them.
    fn told(merges: &[Merge], again: bool) -> (Vec<u8>, Vec<u8>) {
        let mut notices = Notices::default();
        for (n, merge) in (0..).zip(merges) {
            let key = Key { kind: 1, about: Bytes::from_static(b"ann") };
            let frame = Frame::from_encoded(vec![n].into());
            let (merge, span) = (*merge, Span::Moment);
            let notice = Notice { key, frame, merge, span, by: None, to: None, epoch: None };
            notices.put(LogId(Uuid::from_u128(1)), notice);
        }
        let mut batch = notices.take(false);
        if again {
            batch = notices.take(true);
        }
        let of = |told: Vec<(LogId, Notice)>| -> Vec<u8> {
            told.iter().map(|(_, notice)| notice.frame.bytes()[0]).collect()
        };
        (of(batch.here), of(batch.there))
    }

    #[test]
    fn of_one_key_the_greatest_is_told_or_each() {
        let greatest = [7, 9, 8].map(Merge::Greatest);
        assert_eq!(told(&greatest, false), (vec![1], vec![1]));
        let (mut here, there) = told(&[Merge::Each, Merge::Each], false);
        assert_eq!(here, there);
        here.sort_unstable();
        assert_eq!(here, [0, 1]);
    }

    #[test]
    fn what_was_overtaken_is_not_told_again() {
        let (mut notices, log_id) = (Notices::default(), LogId(Uuid::from_u128(1)));
        for rank in [9, 8] {
            let key = Key { kind: 1, about: Bytes::from_static(b"ann") };
            let (frame, merge) = (Frame::default(), Merge::Greatest(rank));
            let span = Span::Moment;
            let notice = Notice { key, frame, merge, span, by: None, to: None, epoch: None };
            notices.put(log_id, notice);
            notices.take(false);
        }
        let again = notices.take(true).there;
        assert_eq!(again.iter().map(|(_, notice)| notice.rank()).collect::<Vec<_>>(), [Some(9)]);
    }

    #[test]
    fn what_is_told_again_is_told_to_the_other_nodes_and_what_is_told_once_is_not() {
        assert_eq!(told(&[Merge::Greatest(7)], true), (vec![], vec![0]));
        assert_eq!(told(&[Merge::Each], true), (vec![], vec![]));
    }
}
