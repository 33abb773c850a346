//! Marks: how far members have read and received.

pub mod grpc;
pub mod store;

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use moka::sync::Cache;
use parlance_log::{Actor, EpochId, Error, RoomKind, Store, View};
use parlance_types::{LogId, PageSize, Query, RoomId, Seq, UserId, cut};

use crate::message::OnRead;

/// Hears of marks that moved in rooms that show receipts. Must not block.
pub type Receipts = Arc<dyn Fn(&Moved<'_>) + Send + Sync>;

/// The most members of a room of which streams tell all marks when they begin.
pub const MAX_SHOWN: i64 = 100;

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

/// Marks of a member that moved.
#[derive(Clone, Copy, Debug)]
pub struct Moved<'a> {
    pub log_id: LogId,
    pub room_id: &'a RoomId,
    pub user_id: &'a UserId,
    pub read: Seq,
    pub delivered: Seq,
    /// The epoch that they moved in.
    pub epoch: &'a EpochId,
}

/// Where one of the members of a room stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMarks {
    pub user_id: UserId,
    pub read: Seq,
    pub delivered: Seq,
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
        let raise = async |log_id| Ok((log_id, self.raise_in(log_id, user, mark).await?));
        let (log_id, (marks, epoch)) = self.store.on_log(actor, room_id, raise).await?;
        if let Some(epoch) = &epoch {
            match self.kind(log_id).await {
                Ok(kind) => self.tell(kind, &moved(log_id, room_id, user, marks, epoch)),
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
        let flag = |log_id| store::flag(self.store.db(), log_id, user, self.store.now());
        self.store.on_log(actor, room_id, flag).await
    }

    /// Moves marks in a log. What is read counts as delivered, and takes the flag away.
    pub async fn raise(&self, log_id: LogId, user: &UserId, mark: Mark) -> Result<Marks, Error> {
        Ok(self.raise_in(log_id, user, mark).await?.0)
    }

    /// How far the members of a room have come, by user id, and the token of the next page.
    pub async fn list(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        size: PageSize,
        page_token: &str,
    ) -> Result<(Vec<MemberMarks>, String), Error> {
        let view = self.store.view_of_room(actor, room_id).await?;
        view.visible_to(actor.user.as_ref())?;
        let query = Query::new(&[
            "ListReceipts",
            actor.tenant_id.as_str(),
            actor.user.as_ref().map_or("", UserId::as_str),
            room_id.as_str(),
            &view.log_id.to_string(),
        ]);
        let at = query.position::<String>(page_token);
        let at = at.map_err(|invalid| Error::invalid("page_token", invalid.to_string()))?;
        let db = self.store.db();
        if let (false, Some(user)) = (shows_receipts(view.kind), &actor.user) {
            let own = store::one(db, view.log_id, user).await?;
            return Ok((own.into_iter().collect(), String::new()));
        }
        // One more than asked for tells whether there is a next page.
        let (after, size) = (at.unwrap_or_default(), size.get());
        let mut members = store::page(db, view.log_id, &after, size + 1).await?;
        let last = cut(&mut members, size);
        let next = last.map(|last| query.token(last.user_id.as_str()));
        Ok((members, next.unwrap_or_default()))
    }

    /// The same with the epoch in which something moved, if it did.
    async fn raise_in(
        &self,
        log_id: LogId,
        user: &UserId,
        mark: Mark,
    ) -> Result<(Marks, Option<EpochId>), Error> {
        let (db, now) = (self.store.db(), self.store.now());
        match mark {
            Mark::Read(seq) => store::read(db, log_id, user, Some(seq), now).await,
            Mark::Delivered(seq) => store::delivered(db, log_id, user, seq, now).await,
            Mark::AllRead => store::read(db, log_id, user, None, now).await,
        }
    }

    /// Passes marks on to the streams of the room, where it shows receipts.
    fn tell(&self, kind: RoomKind, moved: &Moved<'_>) {
        if shows_receipts(kind) {
            (self.receipts)(moved);
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

/// Too many watch a channel or a broadcast to tell them how far each of them has come, and a
/// live room is over before that matters.
const fn shows_receipts(kind: RoomKind) -> bool {
    match kind {
        RoomKind::Direct | RoomKind::Group => true,
        RoomKind::Channel | RoomKind::Broadcast | RoomKind::Live => false,
    }
}

const fn moved<'a>(
    log_id: LogId,
    room_id: &'a RoomId,
    user_id: &'a UserId,
    Marks { read, delivered, .. }: Marks,
    epoch: &'a EpochId,
) -> Moved<'a> {
    Moved { log_id, room_id, user_id, read, delivered, epoch }
}

impl OnRead for Marker {
    fn read<'a>(
        &'a self,
        view: &'a View,
        user: &'a UserId,
        newest: Seq,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let (marks, epoch) = self.raise_in(view.log_id, user, Mark::Read(newest)).await?;
            if let Some(epoch) = &epoch {
                self.tell(view.kind, &moved(view.log_id, &view.room_id, user, marks, epoch));
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marker").field("store", &self.store).finish_non_exhaustive()
    }
}
