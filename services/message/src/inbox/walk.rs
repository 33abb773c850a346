//! A walk through a user's rooms, which move while it is under way.
//!
//! It goes down from the latest activity, then up through what moved meanwhile, in pages of
//! three here:
//!
//! ```text
//! activity of rooms     90 80 70 60 50 40     page 1: 90 80 70
//! 50 is written to, 95  95 90 80 70 60 40     page 2: 60 40, then up from 90: 95
//! ```
//!
//! On Postgres an append may commit after one that was given a later time, by another replica
//! whose clock is ahead: the way up begins so much earlier, and what was listed of that
//! stretch is remembered, so that it is not listed twice.

use parlance_types::Micros;
use serde::{Deserialize, Serialize};

use super::UserLog;

/// By how much an append that commits later may have been given an earlier time. What differs
/// by more (clocks, or a commit that takes longer) may be missed.
pub(super) const IN_FLIGHT: Micros = 250_000;

/// How many rooms are remembered.
const MOST: usize = 500;

/// The place of a room in the list: its activity, and its log.
pub(super) type Place = (Micros, u128);

/// Where a walk stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Where the way up begins.
    floor: Place,
    pub(super) ascending: bool,
    /// The place of the last entry.
    pub(super) at: Place,
    /// Rooms that are not to be listed on the way up, by the random part of their logs' ids.
    listed: Vec<u64>,
}

fn place(log: &UserLog) -> Place {
    (log.activity, log.unread.log_id.0.as_u128())
}

fn name(log: &UserLog) -> u64 {
    log.unread.log_id.0.as_u64_pair().1
}

impl Walk {
    /// A walk after its first page, on a database where commits may be out of order by `slack`.
    /// `None`: the page is empty.
    pub(super) fn begin(page: &[UserLog], slack: Micros) -> Option<Self> {
        let (began, _) = place(page.first()?);
        let floor = (began.saturating_sub(slack), u128::MAX);
        Some(Self { floor, ascending: false, at: floor, listed: Vec::new() }.went_down(page))
    }

    /// The walk after a page on the way down.
    pub(super) fn went_down(mut self, page: &[UserLog]) -> Self {
        for log in page {
            self.at = place(log);
            if self.at > self.floor {
                if self.listed.len() >= MOST {
                    self.floor = self.at;
                } else {
                    self.listed.push(name(log));
                }
            }
        }
        self
    }

    /// The same walk from its bottom: up again.
    pub(super) fn turned(self) -> Self {
        Self { ascending: true, at: self.floor, ..self }
    }

    /// How many entries must be read to find `limit` that were not listed.
    pub(super) const fn to_read(&self, limit: usize) -> usize {
        // A walk that was made up may hold any number.
        limit + if self.listed.len() < MOST { self.listed.len() } else { MOST }
    }

    /// What a page on the way up shows of the entries that were read, and the walk after it;
    /// `None`: it is over.
    pub(super) fn went_up(
        mut self,
        read: Vec<UserLog>,
        limit: usize,
    ) -> (Vec<UserLog>, Option<Self>) {
        let all = read.len() < self.to_read(limit);
        let mut page = Vec::new();
        for log in read {
            if page.len() == limit {
                return (page, Some(self));
            }
            self.at = place(&log);
            if self.listed.contains(&name(&log)) {
                continue;
            }
            if self.listed.len() >= MOST {
                return (page, None);
            }
            self.listed.push(name(&log));
            page.push(log);
        }
        (page, (!all).then_some(self))
    }
}
