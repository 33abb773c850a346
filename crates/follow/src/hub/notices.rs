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
use std::time::Duration;

use bytes::Bytes;
use parlance_types::LogId;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Inner, wire};
use crate::lock;
use crate::notice::{self, Merge, Notice, Waiting};

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
    pub(super) fn tell(&self, log_id: LogId, notice: Notice) {
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

    /// Puts notices into the mailboxes of this node.
    pub(super) fn deliver(&self, notices: &[(LogId, Notice)]) {
        for of_log in notices.chunk_by(|a, b| a.0 == b.0) {
            let Some(log) = self.log(of_log[0].0) else { continue };
            let mailboxes: Vec<_> = lock(&log.state).wakers().map(Arc::clone).collect();
            for mailbox in mailboxes {
                mailbox.notices(of_log);
            }
        }
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
        let again = fresh.into_iter().filter(|(_, notice)| notice.merge != Merge::Each);
        self.recent.extend(again.map(|(key, notice)| (key, (now, notice))));
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
            let notice = Notice { key, frame, merge: *merge, span: Span::Moment, not_for: None };
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
    fn of_one_key_the_latest_or_the_greatest_is_told_or_each() {
        assert_eq!(told(&[Merge::Latest, Merge::Latest], false), (vec![1], vec![1]));
        let greatest = [7, 9, 8].map(Merge::Greatest);
        assert_eq!(told(&greatest, false), (vec![1], vec![1]));
        let (mut here, there) = told(&[Merge::Each, Merge::Each], false);
        assert_eq!(here, there);
        here.sort_unstable();
        assert_eq!(here, [0, 1]);
    }

    #[test]
    fn what_is_told_again_is_told_to_the_other_nodes_and_what_is_told_once_is_not() {
        assert_eq!(told(&[Merge::Latest], true), (vec![], vec![0]));
        assert_eq!(told(&[Merge::Each], true), (vec![], vec![]));
    }
}
