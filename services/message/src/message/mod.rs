//! Messages: what senders write, and what becomes of it.

mod attached;
mod change;
pub mod codec;
mod content;
pub mod grpc;
mod list;
mod screen;
pub mod store;

pub use self::attached::{Attached, Source};
pub(crate) use self::attached::{is_content_type, is_name};
pub use self::change::{Deletion, Edit, Edited, OnDelete};
pub use self::content::{Content, InvalidContent};
pub(crate) use self::list::cut;
pub use self::list::{Listing, OnRead, Page, Position};
pub use self::screen::{Filter, Hook, Judged, Screens, Written};
pub use self::store::Range;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parlance_log::{
    Actor, Entry, Error, Priority, RequestKey, Sent, Store, View, attachable, may_be_outdated,
};
use parlance_types::{LogId, MessageId, Micros, RequestId, RoomId, Seq, UserId};
use uuid::Uuid;

/// A message somebody wants to send to a room.
#[derive(Clone, Debug)]
pub struct Draft {
    pub content: Content,
    pub request_id: Option<RequestId>,
    pub uncounted: bool,
    /// How long it is there; `None`: for ever.
    pub expire_after: Option<Micros>,
    /// Where it was sent, if that was elsewhere: then `uncounted` is not asked.
    pub origin: Option<Origin>,
    pub priority: Priority,
}

/// Where a message was sent that a backend brings in.
#[derive(Clone, Debug)]
pub struct Origin {
    pub time: Micros,
    /// `None`: the system.
    pub sender: Option<UserId>,
    pub counted: bool,
}

/// A message as it reads now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub message_id: MessageId,
    pub sender: Option<UserId>,
    /// Encoded, as it is stored; `None` once it was deleted for everyone or has expired.
    pub content: Option<Bytes>,
    pub time: Micros,
    pub uncounted: bool,
    /// Place and time of the edit that holds the present content.
    pub edit: Option<(Seq, Micros)>,
    /// Place of the deletion.
    pub deleted: Option<Seq>,
    /// When it expires; `None`: never.
    pub expires: Option<Micros>,
    /// When it was sent where it was brought in from; `None`: it was sent here.
    pub origin: Option<Micros>,
    /// Of a reply: what its thread began with.
    pub root: Option<Seq>,
    /// How many replies there are to it that are not deleted.
    pub replies: i64,
    /// When the latest of them was sent.
    pub reply_time: Option<Micros>,
    /// How many reactions of each kind it has.
    pub reactions: Vec<ReactionCount>,
}

/// How many users reacted to a message in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactionCount {
    pub kind: String,
    pub count: i64,
    /// Whether the viewer is one of them.
    pub own: bool,
}

/// What a message takes on the wire beside what is counted here, at most: ids, times and numbers.
const BESIDE_CONTENT: usize = 640;

/// What the count of a kind of reaction takes on the wire beside the kind, at most.
const BESIDE_KIND: usize = 20;

impl Message {
    /// Whether it is kept from the viewer.
    pub(crate) fn is_left_out(&self, view: &View) -> bool {
        view.leaves_out(self.message_id.seq, self.sender.as_ref())
    }

    /// What the message takes in an answer, at most, in bytes.
    pub(crate) fn size(&self) -> usize {
        let content = self.content.as_ref().map_or(0, Bytes::len);
        let kinds = self.reactions.iter().map(|counted| BESIDE_KIND + counted.kind.len());
        BESIDE_CONTENT + content + kinds.sum::<usize>()
    }
}

/// The messages of all rooms.
#[derive(Clone, Debug)]
pub struct Messages {
    store: Store,
    screens: Screens,
    on_read: Arc<dyn OnRead>,
    on_delete: OnDelete,
}

impl Messages {
    /// `screens` judge what users write; `on_read` hears of pages that were shown, `on_delete`
    /// of deletions.
    pub fn new(
        store: Store,
        screens: Screens,
        on_read: Arc<dyn OnRead>,
        on_delete: OnDelete,
    ) -> Self {
        Self { store, screens, on_read, on_delete }
    }

    /// Appends a message. The log judges it, after it has looked for a repeat.
    pub async fn send(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        draft: &Draft,
    ) -> Result<Sent, Error> {
        let send = async |log_id| self.send_to(log_id, actor, room_id, draft).await;
        self.store.on_log(actor, room_id, send).await
    }

    /// Queues a message. Those that one actor queues for one room are appended in that order,
    /// as long as none is refused at first because of what has changed just then. What is given
    /// back waits for the end, as [`send`](Self::send) does.
    pub async fn queue(
        &self,
        actor: Actor,
        room_id: RoomId,
        draft: Draft,
    ) -> Result<BoxFuture<'static, Result<Sent, Error>>, Error> {
        let log_id = self.store.log_of(&actor, &room_id).await?;
        let queued = if draft.fits(log_id) {
            Some(self.store.queue(self.entry(log_id, &actor, &room_id, &draft).await?))
        } else {
            None
        };
        let messages = self.clone();
        Ok(Box::pin(async move {
            let sent = match queued {
                Some(queued) => queued.await,
                None => Err(messages.misfit(&actor, &room_id).await),
            };
            match sent {
                Err(refused) if may_be_outdated(&refused) => {
                    let again = async |id| messages.send_to(id, &actor, &room_id, &draft).await;
                    messages.store.on_log_now(&actor, &room_id, again).await
                }
                sent => sent,
            }
        }))
    }

    async fn send_to(
        &self,
        log_id: LogId,
        actor: &Actor,
        room_id: &RoomId,
        draft: &Draft,
    ) -> Result<Sent, Error> {
        if !draft.fits(log_id) {
            return Err(self.misfit(actor, room_id).await);
        }
        self.store.append(self.entry(log_id, actor, room_id, draft).await?).await
    }

    /// The message on its way into a log, as the screens let it pass: of a reply it is looked up
    /// what its thread began with, and of uploads that it holds what they are.
    async fn entry(
        &self,
        log_id: LogId,
        actor: &Actor,
        room_id: &RoomId,
        draft: &Draft,
    ) -> Result<Entry, Error> {
        let instead = self.screens.of_new(&self.store, log_id, actor, room_id, draft).await?;
        let root = match draft.content.reply_to() {
            Some(target) => store::root(&self.store, target).await?,
            None => None,
        };
        let entry = draft.entry(log_id, actor.clone());
        let is_other = instead.is_some() || root.is_some();
        let stored = instead.map(|content| Draft { content, ..draft.clone() });
        let stored = stored.as_ref().unwrap_or(draft);
        if stored.content.stored_ids().next().is_none() {
            return Ok(if is_other { stored.storing(entry, root) } else { entry });
        }
        match self.described(log_id, entry.sender(), stored).await {
            Ok((uploads, described)) => Ok(described.storing(entry.holding(uploads), root)),
            // Of a repeat its own message has them.
            Err(Error::Refused(..))
                if self.store.is_stored(log_id, entry.sender(), entry.request()).await? =>
            {
                Ok(entry)
            }
            Err(refused @ Error::Refused(..)) => {
                // A caller who may not see the room does not learn what is in it.
                let view = self.store.view_of_room(actor, room_id).await?;
                view.visible_to(actor.user.as_ref())?;
                Err(refused)
            }
            Err(error) => Err(error),
        }
    }

    /// The uploads that a message is to hold, and the message with what they are.
    async fn described(
        &self,
        log_id: LogId,
        sender: Option<&UserId>,
        draft: &Draft,
    ) -> Result<(Vec<Uuid>, Draft), Error> {
        let ids = draft.content.uploads(log_id)?;
        let found = self.store.uploads(log_id, &ids).await?;
        let uploads = attachable(&found, &ids, sender, None)?;
        let content = draft.content.clone().describing(&uploads);
        Ok((ids, Draft { content, ..draft.clone() }))
    }

    /// Why a message is refused that answers one of another log.
    async fn misfit(&self, actor: &Actor, room_id: &RoomId) -> Error {
        // A caller who may not see the room does not learn what is in it.
        let view = self.store.view_of_room(actor, room_id).await;
        match view.and_then(|view| view.visible_to(actor.user.as_ref()).map(drop)) {
            Ok(()) => {
                let field = "content.reply_to_message_id";
                Error::invalid(field, "must be a message of the same room")
            }
            Err(refused) => refused,
        }
    }

    /// The time.
    pub fn now(&self) -> Micros {
        self.store.now()
    }

    /// Replaces the content of a message. A repeat of its request gets the first reply.
    ///
    /// Refused with MESSAGE_NOT_FOUND, NOT_A_MEMBER, NOT_THE_SENDER, POSTING_RESTRICTED,
    /// MESSAGE_DELETED, REQUEST_ID_REUSED, CONTENT_FILTERED, HOOK_REFUSED, HOOK_UNAVAILABLE.
    pub async fn edit(&self, edit: Edit) -> Result<Edited, Error> {
        let (actor, message_id) = (edit.actor.clone(), edit.message_id);
        let edit = Edit { instead: self.screens.of_edit(&self.store, &edit).await?, ..edit };
        self.store.change_message(&actor, message_id, edit).await
    }

    /// Deletes a message for everyone, and says where; deleting again gives the same place.
    ///
    /// Refused with MESSAGE_NOT_FOUND, NOT_A_MEMBER, NOT_THE_SENDER.
    pub async fn delete(&self, actor: Actor, message_id: MessageId) -> Result<Seq, Error> {
        let deletion = Deletion { actor: actor.clone(), message_id, on_delete: self.on_delete };
        self.store.change_message(&actor, message_id, deletion).await
    }

    /// One message as it reads now, and the view of its room.
    pub async fn get(
        &self,
        actor: &Actor,
        message_id: MessageId,
    ) -> Result<(View, Message), Error> {
        let MessageId { log_id, seq } = message_id;
        let range = Range::After(seq - 1);
        let viewer = actor.user.as_ref();
        let read = async |log_id| store::page(&self.store, log_id, viewer, range, 1).await;
        let found = self.store.read_met(actor, log_id, read).await?;
        let (view, mut messages) = found.ok_or(Error::message_not_found())?;
        view.shows_to(actor, message_id)?;
        let shown = |message: &Message| !message.is_left_out(&view);
        let found =
            messages.pop().filter(|message| message.message_id == message_id && shown(message));
        Ok((view, found.ok_or(Error::message_not_found())?))
    }
}

impl Draft {
    /// Whether what it answers, if it answers anything, is of this log.
    fn fits(&self, log_id: LogId) -> bool {
        self.content.reply_to().is_none_or(|reply_to| reply_to.log_id == log_id)
    }

    /// The message on its way into a log, as sent by the actor's user or the system.
    pub fn entry(&self, log_id: LogId, actor: Actor) -> Entry {
        let sender = match &self.origin {
            Some(origin) => origin.sender.clone(),
            None => actor.user.clone(),
        };
        let payload = codec::sent(sender.as_ref(), self, None);
        let request = RequestKey::from(self.request_id.clone());
        let entry = Entry::new(log_id, actor, request, self.is_counted(), payload);
        let entry = entry.expiring(self.expire_after).sent_by(sender).prior(self.priority);
        self.calling(entry)
    }

    /// The entry with whom it calls on. History does not call unless it counts.
    fn calling(&self, entry: Entry) -> Entry {
        if self.origin.as_ref().is_some_and(|origin| !origin.counted) {
            return entry;
        }
        entry.mentioning(self.content.mentions().clone())
    }

    /// Whether it counts as unread. History does not unless that is asked for.
    pub(crate) fn is_counted(&self) -> bool {
        self.origin.as_ref().map_or(!self.uncounted, |origin| origin.counted)
    }

    /// The entry of which this is stored, as a reply in the thread that began with `root`, if
    /// there is one.
    fn storing(&self, entry: Entry, root: Option<MessageId>) -> Entry {
        let payload = codec::sent(entry.sender(), self, root);
        self.calling(entry.storing(root.map(|root| root.seq), payload))
    }
}
