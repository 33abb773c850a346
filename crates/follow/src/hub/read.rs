//! How a node reads logs from the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parlance_log::{EpochId, Error, Store, StoredEvent};
use parlance_types::{MessageId, Seq};

use super::{Inner, Log, Started, Subscription, count};
use crate::batch::Batch;
use crate::blocks::{Block, BlockId};
use crate::cursor::Cursor;
use crate::entry::Entry;
use crate::failure::Unavailable;
use crate::lock;
use crate::log::Pull;
use crate::notice::By;
use crate::present::Presents;

/// Events that healing reads at once.
const PAGE: i64 = 256;

/// Why a block is not in the cache.
enum Uncached {
    /// It was read, and the log will add to it.
    Incomplete(Arc<Block>),
    Failed(Unavailable),
}

impl Inner {
    pub(crate) fn store(&self) -> Result<&Store, Unavailable> {
        Ok(&self.started()?.store)
    }

    pub(crate) fn presents(&self) -> Result<&dyn Presents, Unavailable> {
        Ok(&*self.started()?.presents)
    }

    fn started(&self) -> Result<&Started, Unavailable> {
        self.started.get().ok_or_else(|| Error::draining().into())
    }

    fn late(&self) -> Error {
        Error::late(self.options.deadline)
    }

    /// Asks the store, within a deadline.
    pub(crate) async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Unavailable> {
        let answer = tokio::time::timeout(self.options.deadline, question).await;
        answer.unwrap_or_else(|_| Err(self.late())).map_err(Unavailable::from)
    }

    /// The same for what many streams may want at once: in its turn.
    pub(crate) async fn ask_in_turn<T>(
        &self,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Unavailable> {
        let turns = &self.started()?.turns;
        let question = async {
            let _turn = turns.acquire().await.map_err(|_| Error::draining())?;
            question.await
        };
        self.ask(question).await
    }

    /// A block of a log: from memory, or read once however many streams want it.
    pub(crate) async fn block(&self, log: &Log, id: BlockId) -> Result<Arc<Block>, Unavailable> {
        let key = (log.place.log_id, id);
        let read = async {
            count(&self.counters.blocks_read);
            let block = Arc::new(self.read_block(log, id).await.map_err(Uncached::Failed)?);
            if block.is_complete() { Ok(block) } else { Err(Uncached::Incomplete(block)) }
        };
        match self.blocks.try_get_with(key, read).await {
            Ok(block) => Ok(block),
            Err(uncached) => match &*uncached {
                Uncached::Incomplete(block) => Ok(Arc::clone(block)),
                Uncached::Failed(unavailable) => Err(unavailable.clone()),
            },
        }
    }

    /// Reads what is missing in front of what was heard of. One at a time per log, and
    /// within a deadline; what was read until then is not read again.
    pub(super) async fn heal(&self, log: &Log) -> Result<(), Unavailable> {
        let heal = async {
            let _only = log.healing.lock().await;
            self.read_missing(log).await
        };
        let healed = tokio::time::timeout(self.options.deadline, heal).await;
        healed.unwrap_or_else(|_| Err(self.late().into()))
    }

    /// The same as it was planned: until its turn comes there is no need to plan another.
    pub(super) async fn heal_as_planned(&self, log: &Log) -> Result<(), Unavailable> {
        let heal = async {
            let _only = log.healing.lock().await;
            log.heal_planned.store(false, Ordering::Release);
            if lock(&log.state).missing().is_some() {
                count(&self.counters.gaps_healed);
            }
            self.read_missing(log).await
        };
        let healed = tokio::time::timeout(self.options.deadline, heal).await;
        healed.unwrap_or_else(|_| {
            log.heal_planned.store(false, Ordering::Release);
            Err(self.late().into())
        })
    }

    async fn read_missing(&self, log: &Log) -> Result<(), Unavailable> {
        loop {
            let Some((epoch, next)) = lock(&log.state).missing() else { return Ok(()) };
            let entries = self.read_events(log, next, next + PAGE - 1).await?;
            if has_read(log, &epoch, next, entries) {
                continue;
            }
            if self.is_pruned(log, next).await? {
                self.drop_ring(log, &epoch);
            } else {
                tracing::error!(log_id = %log.place.log_id, seq = next, "an event is not stored");
                lock(&log.state).give_up();
            }
            return Ok(());
        }
    }

    /// Whether an event is gone with those before it.
    async fn is_pruned(&self, log: &Log, seq: Seq) -> Result<bool, Unavailable> {
        let heads = self.ask_in_turn(self.store()?.heads(&[log.place.log_id])).await?;
        Ok(heads.first().is_some_and(|head| seq < head.first))
    }

    async fn read_block(&self, log: &Log, id: BlockId) -> Result<Block, Unavailable> {
        Ok(Block::new(id, self.read_events(log, id.first(), id.last()).await?))
    }

    async fn read_events(&self, log: &Log, from: i64, to: i64) -> Result<Vec<Entry>, Unavailable> {
        let events = self.store()?.events(log.place.log_id, from, to);
        let events = self.ask_in_turn(events).await?;
        let entry = |event: &StoredEvent| {
            let id = MessageId { log_id: log.place.log_id, seq: event.seq };
            let entry = Entry::encode(&log.place, event);
            entry.map_err(|_| {
                let unreadable = Error::unreadable(id);
                tracing::error!(error = &unreadable as &dyn std::error::Error);
                unreadable.into()
            })
        };
        events.iter().map(entry).collect()
    }
}

/// Takes events that were read. Says whether that led anywhere.
fn has_read(log: &Log, epoch: &EpochId, next: Seq, entries: Vec<Entry>) -> bool {
    let mut state = lock(&log.state);
    let heard = state.hear(epoch, entries, 0);
    if heard.advanced {
        state.wake(|mailbox| mailbox.ready(log.place.log_id));
    } else if !heard.suspect {
        return state.missing().is_none_or(|(_, still)| still != next);
    }
    true
}

impl Subscription {
    /// Puts what comes next for the stream into the batch.
    pub(crate) fn pull(
        &self,
        cursor: &mut Cursor,
        block: Option<&Block>,
        batch: &mut Batch,
    ) -> Pull {
        lock(&self.log.state).pull(self.id, cursor, block, batch)
    }

    /// Whether the member who makes a notice may have lost access since.
    pub(crate) fn has_lost(&self, by: Option<&By>) -> bool {
        by.is_some() && lock(&self.log.state).has_lost(by)
    }
}
