//! Marks: how far members have read and received.

pub mod grpc;
pub mod store;

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use moka::sync::Cache;
use parlance_log::{Actor, Error, RoomKind, Store, View};
use parlance_types::{LogId, RoomId, Seq, UserId};

use crate::message::OnRead;

/// Hears of marks that moved in rooms that show receipts. Must not block.
pub type Receipts = Arc<dyn Fn(LogId, &RoomId, &UserId, Marks) + Send + Sync>;

/// How many logs' kinds are remembered.
const KINDS: u64 = 100_000;

/// How a member's marks move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Read(Seq),
    Delivered(Seq),
    AllRead,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub read: Seq,
    pub delivered: Seq,
    /// Whether this call moved anything.
    pub moved: bool,
}

/// Moves the marks of members.
#[derive(Clone)]
pub struct Marker {
    store: Store,
    receipts: Receipts,
    /// The kind of a log never changes.
    kinds: Cache<LogId, RoomKind>,
}

impl Marker {
    pub fn new(store: Store, receipts: Receipts) -> Self {
        Self { store, receipts, kinds: Cache::new(KINDS) }
    }

    /// Moves marks of `user` upwards.
    pub async fn mark(
        &self,
        actor: &Actor,
        user: &UserId,
        room_id: &RoomId,
        mark: Mark,
    ) -> Result<Marks, Error> {
        let raise = async |log_id| Ok((log_id, self.raise(log_id, user, mark).await?));
        let (log_id, marks) = self.store.on_log(actor, room_id, raise).await?;
        if marks.moved {
            match self.kind(log_id).await {
                Ok(kind) => self.tell(kind, log_id, room_id, user, marks),
                Err(error) => tracing::debug!(%error, "a receipt is not told"),
            }
        }
        Ok(marks)
    }

    /// Flags a room as unread, until the next mark or message of the member.
    pub async fn flag_unread(
        &self,
        actor: &Actor,
        user: &UserId,
        room_id: &RoomId,
    ) -> Result<(), Error> {
        let flag = |log_id| store::flag(self.store.db(), log_id, user);
        self.store.on_log(actor, room_id, flag).await
    }

    /// Moves marks in a log. What is read counts as delivered, and takes the flag away.
    pub async fn raise(&self, log_id: LogId, user: &UserId, mark: Mark) -> Result<Marks, Error> {
        let db = self.store.db();
        match mark {
            Mark::Read(seq) => store::read(db, log_id, user, Some(seq)).await,
            Mark::Delivered(seq) => store::delivered(db, log_id, user, seq).await,
            Mark::AllRead => store::read(db, log_id, user, None).await,
        }
    }

    /// Passes marks on to the streams of the room, where it shows receipts.
    fn tell(&self, kind: RoomKind, log_id: LogId, room_id: &RoomId, user: &UserId, marks: Marks) {
        if marks.moved && kind != RoomKind::Channel {
            (self.receipts)(log_id, room_id, user, marks);
        }
    }

    async fn kind(&self, log_id: LogId) -> Result<RoomKind, Error> {
        if let Some(kind) = self.kinds.get(&log_id) {
            return Ok(kind);
        }
        let view = self.store.view(log_id, None).await?.ok_or(Error::room_not_found())?;
        self.kinds.insert(log_id, view.kind);
        Ok(view.kind)
    }
}

impl OnRead for Marker {
    fn read<'a>(
        &'a self,
        view: &'a View,
        user: &'a UserId,
        newest: Seq,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let marks = self.raise(view.log_id, user, Mark::Read(newest)).await?;
            self.tell(view.kind, view.log_id, &view.room_id, user, marks);
            Ok(())
        })
    }
}

impl fmt::Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marker").field("store", &self.store).finish_non_exhaustive()
    }
}
