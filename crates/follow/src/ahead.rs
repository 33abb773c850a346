//! Events of a log that came before the ones in front of them, or before its ring began.

use std::collections::BTreeMap;
use std::sync::Arc;

use parlance_log::EpochId;
use parlance_types::Seq;

use super::budget::{Budget, Share};
use super::entry::Entry;
use super::ring::Limits;

#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) epoch: EpochId,
    entries: BTreeMap<Seq, Entry>,
    held: Share,
    /// The greatest number heard of.
    pub(super) top: Seq,
}

impl Ahead {
    pub(super) fn new(epoch: EpochId, top: Seq, budget: &Arc<Budget>) -> Self {
        Self { epoch, entries: BTreeMap::new(), held: Share::new(Arc::clone(budget)), top }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Holds an event; what does not fit is healed from the database.
    pub(super) fn hold(&mut self, entry: Entry, limits: Limits) {
        let fits = self.entries.len() < limits.events
            && self.held.bytes() + entry.bytes() <= limits.bytes
            && !self.held.budget().is_over();
        if fits && !self.entries.contains_key(&entry.seq) {
            self.held.take(entry.bytes());
            self.entries.insert(entry.seq, entry);
        }
    }

    /// Gives out the first event, unless others come before it.
    pub(super) fn next(&mut self, head: Seq) -> Option<Entry> {
        let first = self.entries.first_entry().filter(|first| *first.key() <= head + 1)?;
        let entry = first.remove();
        self.held.give_back(entry.bytes());
        Some(entry)
    }
}
