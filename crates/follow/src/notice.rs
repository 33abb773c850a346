//! Notices: what passes in a room, without a place in its log. A noun makes them; hub, hints,
//! mailboxes and streams carry them and do not know what they say.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use parlance_log::EpochId;
use parlance_proto::frame::Frame;
use parlance_types::{LogId, Seq, UserId};
use tokio::time::Instant;

/// Something that passes in a room: told to the room's streams on every node, kept nowhere.
/// One that is lost is not repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub key: Key,
    /// The frame that streams are told, encoded once for all of them.
    pub frame: Frame,
    pub merge: Merge,
    pub span: Span,
    /// The member who makes it.
    pub by: Option<By>,
    /// The members whose streams alone are told, of a moment; `None`: all are.
    pub to: Option<Arc<[UserId]>>,
    /// The epoch of the log that it holds in; `None`: in any.
    pub epoch: Option<EpochId>,
}

/// A member who makes a notice: who has blocked them is not told, and what goes on ends with
/// their membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    pub user: UserId,
    /// The head of the log when they were a member.
    pub as_of: Seq,
    /// Whether their own streams are told, too.
    pub echo: bool,
}

/// The subject of a notice. Of several with one key that wait, one is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The number of the kind in the contract: its field in `parlance.message.v1.Notice`.
    pub kind: u32,
    /// Of the kind: which. Mostly a user.
    pub about: Bytes,
}

/// Which of two notices with one key is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The later one. The hub makes it the greatest, of a rank that grows with time.
    Latest,
    /// The one of the greatest rank, whatever order they come in. No stream is told one of
    /// a lesser rank afterwards, while the epoch lasts.
    Greatest(i64),
    /// Both, each once: a disturbance of the bus does not repeat them.
    Each,
}

/// How long what a notice says holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// It happened. Told as it comes.
    Moment,
    /// It goes on until then, unless told again. A stream tells when it begins and, by
    /// itself and with this frame, when it ends.
    Until(Instant, Frame),
    /// It is over. Told where it was told to go on.
    Over,
}

/// Notices of one kind that wait, by what they are about.
pub(super) type Waiting = BTreeMap<(LogId, Bytes), Notice>;

/// Lets a notice wait among at most `most` of its kind. What is one too many is dropped, as
/// notices may be.
pub(super) fn put(waiting: &mut Waiting, most: usize, log_id: LogId, notice: &Notice) {
    let full = waiting.len() >= most;
    match waiting.entry((log_id, notice.key.about.clone())) {
        Entry::Occupied(mut before) => {
            if notice.replaces(before.get()) {
                before.insert(notice.clone());
            }
        }
        Entry::Vacant(free) if !full => drop(free.insert(notice.clone())),
        Entry::Vacant(_) => {}
    }
}

impl Notice {
    /// Whether it takes the place of one with the same key that came before.
    pub(super) fn replaces(&self, before: &Self) -> bool {
        match (self.rank(), before.rank()) {
            (Some(rank), Some(rank_before)) if self.epoch == before.epoch => rank >= rank_before,
            _ => true,
        }
    }

    pub(super) const fn rank(&self) -> Option<i64> {
        match self.merge {
            Merge::Greatest(rank) => Some(rank),
            Merge::Latest | Merge::Each => None,
        }
    }
}
