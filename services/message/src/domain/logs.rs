//! What requests mean: which log, who may, what is stored.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use moka::sync::Cache;
use parlance_types::{LogId, MessageId, RequestId, RoomId, Seq, UserId};

use super::{
    Actor, Content, Deletion, Draft, Edit, Edited, FactBatch, Marks, Message, RoomKind, Sent, View,
    Visible,
};
use crate::Error;
use crate::store::{Applied, Range, Store, Unread, UserLog, Walk};

/// Hears of marks that moved in rooms that show receipts. Must not block.
pub type Receipts = Arc<dyn Fn(LogId, &RoomId, &UserId, Marks) + Send + Sync>;

/// How many logs' kinds are remembered.
const KINDS: u64 = 100_000;

/// The logs of all rooms, for those who call.
pub struct Logs {
    store: Store,
    receipts: Receipts,
    /// The kind of a log never changes.
    kinds: Cache<LogId, RoomKind>,
}

/// A message somebody wants to send to a room.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub room_id: RoomId,
    pub content: Content,
    pub request_id: Option<RequestId>,
    pub uncounted: bool,
}

/// A new content for a message.
#[derive(Clone, Debug)]
pub struct NewContent {
    pub message_id: MessageId,
    pub content: Content,
    pub request_id: Option<RequestId>,
}

/// How a member's marks move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Read(Seq),
    Delivered(Seq),
    AllRead,
}

/// What a recount of a user's unread messages found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recounted {
    pub rooms: usize,
    pub total: i64,
    pub differences: Vec<Difference>,
}

/// A room whose count is not what its log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub room_id: RoomId,
    pub reported: i64,
    pub counted: i64,
}

impl Logs {
    pub fn new(store: Store, receipts: Receipts) -> Self {
        Self { store, receipts, kinds: Cache::new(KINDS) }
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    /// Appends a message. The log judges it, after it has looked for a repeat.
    pub async fn send(&self, actor: &Actor, new: NewMessage) -> Result<Sent, Error> {
        let (new, room_id) = (&new, &new.room_id);
        self.on_log(actor, room_id, |log_id| async move {
            if new.content.reply_to().is_some_and(|reply_to| reply_to.log_id != log_id) {
                // Who may not see the room does not learn what is in it.
                self.view(actor, room_id).await?.visible_to(actor.user.as_ref())?;
                let field = "content.reply_to_message_id";
                return Err(Error::invalid(field, "must be a message of the same room"));
            }
            let draft = Draft {
                log_id,
                sender: actor.user.clone(),
                request_id: new.request_id.clone(),
                content: new.content.clone(),
                uncounted: new.uncounted,
            };
            self.store.send(draft).await
        })
        .await
    }

    /// Replaces the content of a message.
    pub async fn edit(&self, actor: &Actor, new: NewContent) -> Result<Edited, Error> {
        let message_id = new.message_id;
        let edit = Edit {
            tenant_id: actor.tenant_id.clone(),
            message_id,
            editor: actor.user.clone(),
            request_id: new.request_id,
            content: new.content,
        };
        match self.store.edit(edit).await {
            Err(refused) => Err(self.refusal(actor, message_id, refused).await?),
            edited => edited,
        }
    }

    /// Deletes a message for everyone; says where.
    pub async fn delete(&self, actor: &Actor, message_id: MessageId) -> Result<Seq, Error> {
        let deletion =
            Deletion { tenant_id: actor.tenant_id.clone(), message_id, actor: actor.user.clone() };
        match self.store.delete(deletion).await {
            Err(refused) => Err(self.refusal(actor, message_id, refused).await?),
            deleted => deleted,
        }
    }

    /// One message as it reads now, and its room.
    pub async fn message(
        &self,
        actor: &Actor,
        message_id: MessageId,
    ) -> Result<(RoomId, Message), Error> {
        let (view, (from, to)) = self.view_of(actor, message_id).await?;
        // Read as of the view: an edit made since may lie past the viewer's removal.
        let visible = (from.max(message_id.seq), to);
        let range = Range::After(message_id.seq - 1);
        let found = self.store.messages(message_id.log_id, range, visible, 1).await?.pop();
        let found = found.filter(|message| message.message_id == message_id);
        Ok((view.room_id, found.ok_or(Error::MessageNotFound)?))
    }

    /// Moves marks of `user` upwards.
    pub async fn mark(
        &self,
        actor: &Actor,
        user: &UserId,
        room_id: &RoomId,
        mark: Mark,
    ) -> Result<Marks, Error> {
        let (log_id, marks) = self
            .on_log(actor, room_id, |log_id| async move {
                let marks = match mark {
                    Mark::Read(seq) => self.store.mark_read(log_id, user, seq).await?,
                    Mark::Delivered(seq) => self.store.mark_delivered(log_id, user, seq).await?,
                    Mark::AllRead => self.store.mark_all_read(log_id, user).await?,
                };
                Ok((log_id, marks))
            })
            .await?;
        if marks.moved {
            match self.kind(log_id).await {
                Ok(kind) => self.tell(kind, log_id, room_id, user, marks),
                Err(error) => tracing::debug!(%error, "a receipt is not told"),
            }
        }
        Ok(marks)
    }

    /// Flags a room as unread, until the next mark.
    pub async fn flag_unread(
        &self,
        actor: &Actor,
        user: &UserId,
        room_id: &RoomId,
    ) -> Result<(), Error> {
        self.on_log(actor, room_id, |log_id| self.store.flag_unread(log_id, user)).await
    }

    /// What a user has not read: in those of `rooms` the user is in, in the order
    /// asked for, and in total.
    pub async fn unread(
        &self,
        actor: &Actor,
        user: &UserId,
        rooms: &[RoomId],
    ) -> Result<(Vec<Unread>, i64), Error> {
        let all = self.store.unread(&actor.tenant_id, user).await?;
        let total = all.iter().map(|room| room.unread).sum();
        let by_id: HashMap<_, _> = all.iter().map(|room| (&room.room_id, room)).collect();
        let asked = rooms.iter().filter_map(|room| by_id.get(room).copied().cloned()).collect();
        Ok((asked, total))
    }

    /// Counts a user's unread messages again, from the logs themselves.
    pub async fn recount(&self, actor: &Actor, user: &UserId) -> Result<Recounted, Error> {
        let mut found = Recounted::default();
        for room in self.store.recount(&actor.tenant_id, user).await? {
            found.rooms += 1;
            found.total += room.counted;
            if room.counted != room.reported {
                let (reported, counted) = (room.reported, room.counted);
                found.differences.push(Difference { room_id: room.room_id, reported, counted });
            }
        }
        Ok(found)
    }

    /// Applies facts; never judges them.
    pub async fn apply(&self, batch: FactBatch) -> Result<Applied, Error> {
        self.store.apply(batch).await
    }

    /// One page of a user's logs, and where to go on.
    pub async fn user_logs(
        &self,
        actor: &Actor,
        user: &UserId,
        walk: Option<Walk>,
        skip_empty: bool,
        limit: usize,
    ) -> Result<(Vec<UserLog>, Option<Walk>), Error> {
        self.store.user_logs(&actor.tenant_id, user, walk, skip_empty, limit).await
    }

    /// A room that the actor is a member of.
    pub async fn of_member(&self, actor: &Actor, room_id: &RoomId) -> Result<View, Error> {
        let view = self.view(actor, room_id).await?;
        view.visible_to(actor.user.as_ref())?;
        Ok(view)
    }

    /// What the actor may see of a room's present life.
    pub(super) async fn view(&self, actor: &Actor, room_id: &RoomId) -> Result<View, Error> {
        let mut before = None;
        // The second look is for a room id that began a new life since it was cached.
        for _ in 0..2 {
            let log_id = self.resolve(actor, room_id).await?;
            if before == Some(log_id) {
                break;
            }
            match self.store.view(log_id, actor.user.as_ref()).await? {
                Some(view) if view.closed.is_none() => return Ok(view),
                _ => before = Some(log_id),
            }
        }
        Err(Error::RoomNotFound)
    }

    /// Passes marks on to the streams of the room, where it shows receipts.
    pub(super) fn tell(
        &self,
        kind: RoomKind,
        log_id: LogId,
        room_id: &RoomId,
        user: &UserId,
        marks: Marks,
    ) {
        if marks.moved && kind != RoomKind::Channel {
            (self.receipts)(log_id, room_id, user, marks);
        }
    }

    async fn resolve(&self, actor: &Actor, room_id: &RoomId) -> Result<LogId, Error> {
        self.store.resolve(&actor.tenant_id, room_id).await?.ok_or(Error::RoomNotFound)
    }

    /// Runs `attempt` on the log of a room; once more if it was refused for a
    /// reason that no longer holds, such as a room id that began a new life.
    async fn on_log<T, F>(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        attempt: impl Fn(LogId) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let log_id = self.resolve(actor, room_id).await?;
        match attempt(log_id).await {
            Err(Error::RoomNotFound | Error::NotAMember) => {}
            done => return done,
        }
        let view = self.view(actor, room_id).await?;
        view.visible_to(actor.user.as_ref())?;
        match attempt(view.log_id).await {
            Err(Error::NotAMember) if view.kind == RoomKind::Direct => Err(Error::RoomNotFound),
            done => done,
        }
    }

    /// What the actor may see of a message's log; fails unless the message is within.
    async fn view_of(
        &self,
        actor: &Actor,
        message_id: MessageId,
    ) -> Result<(View, Visible), Error> {
        let view = self.store.view(message_id.log_id, actor.user.as_ref()).await?;
        let view = view.filter(|view| view.tenant_id == actor.tenant_id);
        let view = view.ok_or(Error::MessageNotFound)?;
        let visible = match view.visible_to(actor.user.as_ref()) {
            Err(Error::RoomNotFound) => Err(Error::MessageNotFound),
            visible => visible,
        }?;
        let seen = visible.0..=visible.1;
        if seen.contains(&message_id.seq) {
            Ok((view, visible))
        } else {
            Err(Error::MessageNotFound)
        }
    }

    /// Why a change of a message was refused, in words for somebody who may see
    /// no more than the actor may.
    async fn refusal(
        &self,
        actor: &Actor,
        message_id: MessageId,
        refused: Error,
    ) -> Result<Error, Error> {
        let hides = matches!(
            refused,
            Error::RoomNotFound
                | Error::LogNotFound
                | Error::NotAMember
                | Error::NotTheSender
                | Error::MessageDeleted
        );
        if hides {
            self.view_of(actor, message_id).await?;
        }
        Ok(refused)
    }

    async fn kind(&self, log_id: LogId) -> Result<RoomKind, Error> {
        if let Some(kind) = self.kinds.get(&log_id) {
            return Ok(kind);
        }
        let view = self.store.view(log_id, None).await?.ok_or(Error::LogNotFound)?;
        self.kinds.insert(log_id, view.kind);
        Ok(view.kind)
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("store", &self.store).finish_non_exhaustive()
    }
}
