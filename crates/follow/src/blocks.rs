//! Blocks: the aligned stretches in which the past of a log is read.

use parlance_types::Seq;

use super::entry::Entry;

/// Events in a block.
pub(crate) const BLOCK: Seq = 64;

/// The age of copies of a log: changes whenever copies made before may hold content that
/// must not be given out any more. Unique on a node, never used again.
pub(crate) type Generation = u64;

/// Which block of a log, as of which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockId {
    pub index: Seq,
    pub generation: Generation,
}

/// A stretch of a log, as it was read in one generation.
#[derive(Debug)]
pub(crate) struct Block {
    pub id: BlockId,
    /// In order, without a hole: what comes before the first was pruned when it was read.
    entries: Vec<Entry>,
}

impl BlockId {
    /// The block that holds `seq`.
    pub(crate) const fn holding(seq: Seq, generation: Generation) -> Self {
        Self { index: (seq - 1) / BLOCK, generation }
    }

    pub(crate) const fn first(self) -> Seq {
        self.index * BLOCK + 1
    }

    pub(crate) const fn last(self) -> Seq {
        (self.index + 1) * BLOCK
    }
}

impl Block {
    /// Takes what was read for the block, up to the first hole.
    pub(crate) fn new(id: BlockId, mut entries: Vec<Entry>) -> Self {
        let first = entries.first().map_or(id.first(), |entry| entry.seq);
        let dense = entries.iter().zip(first..=id.last()).take_while(|(e, seq)| e.seq == *seq);
        let len = dense.count();
        entries.truncate(len);
        Self { id, entries }
    }

    /// Says if it will never hold more: only then may it be kept.
    pub(crate) fn is_complete(&self) -> bool {
        self.entries.last().is_some_and(|last| last.seq == self.id.last())
    }

    /// How many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.iter().map(Entry::bytes).sum()
    }

    /// The events after `position` that the block holds; none if the block does
    /// not hold the next one.
    pub(crate) fn after(&self, position: Seq) -> impl Iterator<Item = &Entry> {
        let first = self.entries.first().map_or(Seq::MAX, |entry| entry.seq);
        let skip = usize::try_from(position + 1 - first).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip)
    }
}
