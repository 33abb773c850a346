//! What one tenant may call, on one replica of several: arithmetic without clock,
//! network or lock.
//!
//! Each call costs the time in which the rate brings one call. The sum of the costs
//! tells when all calls are paid for; a call is admitted while that lies no further
//! away than the burst. Replicas add up what they admitted in a tally: it is merged
//! with what was used since the last merge, and with when that alone is paid for.

use std::num::NonZeroU32;
use std::time::Duration;

/// Nanoseconds, since a beginning of the replica's own where they are a time.
pub(super) type Nanos = i64;

/// Long ago, and far enough from the smallest number to count from.
const LONG_AGO: Nanos = Nanos::MIN / 4;

/// What was paid for so long ago plays no part any more.
const LONG_PAID: Nanos = 10_000_000_000;

/// How much a tenant may call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    /// The time in which the rate brings one call.
    pub(super) cost: Nanos,
    /// The time in which it brings the burst.
    pub(super) burst: Nanos,
}

impl Quota {
    pub(super) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let cost = 1_000_000_000_u32.div_ceil(per_second.get());
        Self { cost: cost.into(), burst: i64::from(cost) * i64::from(burst.get()) }
    }
}

/// What a replica adds to the tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// The cost of what was admitted since the last merge.
    pub(super) used: Nanos,
    /// When that is paid for, were it alone: from the time of the merge on.
    pub(super) own: Nanos,
}

/// The calls of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// When everything is paid for that was in the tally at the last merge.
    merged: Nanos,
    /// By how much that may be too early.
    late: Nanos,
    /// A merge that is under way: what was used, and when that alone is paid for.
    sent: Option<(Nanos, Nanos)>,
    /// The same of what was admitted since.
    used: Nanos,
    own: Nanos,
    /// When a call is admitted whatever is merged meanwhile: somebody was told so.
    promised: Option<Nanos>,
}

impl Default for Bucket {
    fn default() -> Self {
        let (merged, own) = (LONG_AGO, LONG_AGO);
        Self { merged, late: 0, sent: None, used: 0, own, promised: None }
    }
}

impl Bucket {
    /// When every call is paid for that this replica knows of.
    fn paid(&self) -> Nanos {
        let (used, own) = self.sent.unwrap_or((0, LONG_AGO));
        ((self.merged + used).max(own) + self.used).max(self.own)
    }

    /// Admits a call, or says how long to wait: a call after that is admitted, if
    /// there was no other.
    pub(super) fn admit(&mut self, quota: Quota, now: Nanos) -> Result<(), Duration> {
        let free = self.paid() + quota.cost - quota.burst;
        if now < free && self.promised.is_none_or(|promised| now < promised) {
            let wait = (free + self.late - now).max(1);
            // The first promise that is open is kept; this one is later, or as late.
            self.promised = Some(self.promised.map_or(now + wait, |first| first.min(now + wait)));
            return Err(Duration::from_nanos(wait.unsigned_abs()));
        }
        self.promised = None;
        self.used += quota.cost;
        self.own = self.own.max(now) + quota.cost;
        Ok(())
    }

    /// Whether there is something to tell the tally, or to hear from it: as long as
    /// something is not paid for, others may add to it.
    pub(super) fn is_open(&self, now: Nanos) -> bool {
        self.used > 0 || self.paid() > now
    }

    /// Begins a merge, unless one is under way or there is no need.
    pub(super) fn begin(&mut self, now: Nanos) -> Option<Share> {
        if self.sent.is_some() || !self.is_open(now) {
            return None;
        }
        let share = Share { used: self.used, own: (self.own - now).max(-LONG_PAID) };
        self.sent = Some((self.used, self.own));
        (self.used, self.own) = (0, LONG_AGO);
        Some(share)
    }

    /// Ends a merge that began at `began`: the tally is paid for in `left`.
    pub(super) fn merged(&mut self, began: Nanos, left: Nanos, now: Nanos) {
        self.sent = None;
        // The tally was read between the two. The earlier one admits a little more,
        // the later one promises nothing too early.
        (self.merged, self.late) = (began + left, now - began);
    }

    /// Ends a merge of which nobody knows whether it was made. Nothing waits to be
    /// added later, or the tenant would pay after an outage for every replica that
    /// went on alone: the tally is told how far this replica is, no more.
    pub(super) fn failed(&mut self) {
        self.own = self.paid();
        (self.merged, self.late, self.sent, self.used) = (LONG_AGO, 0, None, 0);
    }

    /// Whether nothing is lost when it is forgotten.
    pub(super) fn is_idle(&self, now: Nanos, shared: bool) -> bool {
        let told = self.sent.is_none() && self.used == 0;
        self.paid() <= now && (told || !shared)
    }
}

#[cfg(test)]
mod tests;
