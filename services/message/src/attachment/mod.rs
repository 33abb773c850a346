//! Attachments: the bytes of what messages hold.
//!
//! A row says what an attachment is, who may read it and how much of it there is; its bytes lie
//! in an object store, in parts of one size, each an object of its own. So what has arrived is
//! there for every replica, and a part is all that a transfer keeps in memory.
//!
//! ```text
//! row      size 600 KiB   arrived 512 KiB   stream 2
//! spans    parts from 0 on: stream 1        parts from 1 on: stream 2
//! objects  LOG/ATTACHMENT/1/0   LOG/ATTACHMENT/2/1
//!          LOG/ATTACHMENT/1/1   of a stream that was cut before it was counted: nobody reads it
//!          LOG/ATTACHMENT/whole all of it, once somebody asked for a URL
//! ```

mod blobs;
pub mod grpc;
mod store;
mod upload;
mod url;

use std::sync::Arc;

use bytes::Bytes;
use parlance_log::{Actor, Error, Store, View};
use parlance_rpc::Reason;
use parlance_types::{AttachmentId, MessageId, Micros, RequestId, RoomId, Seq, UserId};
use uuid::Uuid;

pub use self::blobs::{Blobs, InvalidPlace, OpenError, Place, TryError};
pub(crate) use self::store::{detach_deleted, detach_pruned};
pub use self::upload::Upload;
pub use self::url::Signed;

/// The most bytes of one attachment.
const MAX_SIZE: i64 = 100 * 1024 * 1024;

/// Attachments of a user in a room that no message holds yet, at most.
const MAX_WAITING: i64 = 100;

/// How long an attachment may wait for a message that holds it.
const WAITS: Micros = 24 * 3600 * 1_000_000;

/// The bytes of a part: as many are in memory.
const PART: usize = 256 * 1024;

/// A SHA-256.
pub type Sha256 = [u8; 32];

/// An attachment that somebody wants to upload to a room.
#[derive(Clone, Debug)]
pub struct Draft {
    pub name: String,
    pub content_type: String,
    /// 1 to [`MAX_SIZE`].
    pub size: i64,
    pub sha256: Option<Sha256>,
    pub request_id: Option<RequestId>,
}

/// An attachment as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub id: AttachmentId,
    pub room_id: RoomId,
    pub uploader: Option<UserId>,
    pub name: String,
    pub content_type: String,
    pub size: i64,
    /// The bytes that are there, from the first on.
    pub arrived: i64,
    /// Of all bytes, once they are there.
    pub sha256: Option<Sha256>,
    pub time: Micros,
    /// The message that holds it.
    pub message: Option<MessageId>,
    part_size: i64,
}

/// What was found of an attachment, for somebody who wants to read it.
#[derive(Clone, Debug)]
struct Found {
    attachment: Attachment,
    ended: bool,
    /// Of the message that holds it, if it is there.
    holder: Option<Holder>,
}

#[derive(Clone, Debug)]
struct Holder {
    sender: Option<UserId>,
    /// Whether it was deleted, or has expired.
    gone: bool,
}

/// The attachments of all rooms.
#[derive(Clone, Debug)]
pub struct Attachments {
    store: Store,
    blobs: Arc<Blobs>,
}

impl Attachments {
    pub fn new(store: Store, blobs: Blobs) -> Self {
        Self { store, blobs: Arc::new(blobs) }
    }

    /// Creates an attachment in a room. A repeat of the request gets the first one.
    ///
    /// Refused with ROOM_NOT_FOUND, NOT_A_MEMBER, POSTING_RESTRICTED, REQUEST_ID_REUSED;
    /// fails with `QuotaExceeded`.
    pub async fn create(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        draft: &Draft,
    ) -> Result<Attachment, Error> {
        let create = async |log_id| {
            let (actor, draft) = (actor.clone(), draft.clone());
            let id = AttachmentId { log_id, id: Uuid::now_v7() };
            self.store.run(store::Create { actor, id, draft }).await
        };
        self.store.on_log(actor, room_id, create).await
    }

    /// What there is of an attachment, for those who may read it.
    ///
    /// Refused with ATTACHMENT_NOT_FOUND, NOT_A_MEMBER.
    pub async fn get(&self, actor: &Actor, id: AttachmentId) -> Result<Attachment, Error> {
        Ok(self.look(actor, id).await?.1)
    }

    /// An attachment that the actor may read, and the view of its room.
    async fn look(&self, actor: &Actor, id: AttachmentId) -> Result<(View, Attachment), Error> {
        let read = async |_| store::find(&self.store, actor.user.as_ref(), id).await;
        let found = self.store.read_met(actor, id.log_id, read).await?;
        let (view, found) = found.ok_or(Error::attachment_not_found())?;
        let attachment = shown(&view, actor, found)?;
        Ok((view, attachment))
    }

    /// Begins a stream of the bytes of an attachment, from where it stands.
    ///
    /// Refused with ATTACHMENT_NOT_FOUND, NOT_A_MEMBER, MUTED, BLOCKED, UPLOAD_OFFSET.
    pub async fn upload(
        &self,
        actor: &Actor,
        id: AttachmentId,
        offset: i64,
    ) -> Result<Upload, Error> {
        let (view, attachment) = self.look(actor, id).await?;
        if attachment.uploader != actor.user {
            return Err(Error::attachment_not_found());
        }
        view.may_write(self.store.now())?;
        Upload::begin(self.clone(), attachment, offset).await
    }

    /// The bytes of an attachment from a place on, up to the end of the part that it is in, if
    /// the actor may read it at this moment. `spans` are what was read of it before, if it was.
    async fn read(
        &self,
        actor: &Actor,
        id: AttachmentId,
        offset: i64,
        spans: &mut Option<Spans>,
    ) -> Result<Bytes, Error> {
        let attachment = self.get(actor, id).await?;
        if attachment.sha256.is_none() {
            return Err(incomplete());
        }
        if offset >= attachment.size {
            return Ok(Bytes::new());
        }
        let spans = match spans {
            Some(spans) => spans,
            None => spans.insert(store::spans(&self.store, id).await?),
        };
        let (part, within) = (offset / attachment.part_size, offset % attachment.part_size);
        let mut bytes = self.part(&attachment, spans, part).await?;
        Ok(bytes.split_off(usize::try_from(within).unwrap_or(0).min(bytes.len())))
    }

    /// A part of an attachment.
    async fn part(
        &self,
        attachment: &Attachment,
        spans: &Spans,
        part: i64,
    ) -> Result<Bytes, Error> {
        let bytes = self.blobs.get(attachment.id, spans.stream_of(part), part).await?;
        let expected = (attachment.size - part * attachment.part_size).min(attachment.part_size);
        if i64::try_from(bytes.len()).ok() != Some(expected) {
            return Err(blobs::damaged());
        }
        Ok(bytes)
    }

    /// Removes what nobody may read any more. To be called every few seconds.
    pub async fn tidy(&self) -> Result<(), Error> {
        store::let_go_of_pruned(self.store.db(), self.store.now()).await?;
        let mut failed = None;
        for _ in 0..store::STEPS {
            let now = self.store.now();
            let due = store::due(self.store.db(), now).await?;
            let all = due.len() < store::DUE;
            for (id, due) in due {
                // One that fails holds up no other.
                if let Err(error) = self.end(id, due, now).await {
                    failed.get_or_insert(error);
                }
            }
            if all {
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Goes on with removing an attachment, if no message holds it.
    async fn end(&self, id: AttachmentId, due: Micros, now: Micros) -> Result<(), Error> {
        let db = self.store.db();
        if !store::ends(db, id, due, now).await? {
            return Ok(());
        }
        // Bytes first: as long as the row is there, whoever looks next goes on.
        match self.blobs.remove(id).await {
            Ok(()) => store::forget(db, id).await,
            Err(error) => {
                store::put_off(db, id, due, now).await?;
                Err(error)
            }
        }
    }
}

/// Which streams brought the parts of an attachment: where they began, and their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spans(Vec<(i64, i64)>);

impl Spans {
    /// The stream that brought a part: of those that began at it or before, the latest.
    fn stream_of(&self, part: i64) -> i64 {
        let before = self.0.iter().filter(|(first, _)| *first <= part);
        before.map(|(_, stream)| *stream).max().unwrap_or(0)
    }
}

/// The attachment that was found, if `view`, made for the actor, lets them read it.
fn shown(view: &View, actor: &Actor, found: Option<Found>) -> Result<Attachment, Error> {
    let hidden = || Error::attachment_not_found();
    if view.tenant_id != actor.tenant_id {
        return Err(hidden());
    }
    view.visible_to(actor.user.as_ref()).map_err(|refused| match refused {
        Error::Refused(Reason::RoomNotFound, _) => hidden(),
        refused => refused,
    })?;
    let Found { attachment, ended, holder } = found.ok_or_else(hidden)?;
    if ended {
        return Err(hidden());
    }
    let Some(message) = attachment.message else {
        let own = attachment.uploader == actor.user;
        return if own { Ok(attachment) } else { Err(hidden()) };
    };
    let holder = holder.filter(|holder| !holder.gone && !view.hides(holder.sender.as_ref()));
    view.shows_to(actor, message).map_err(|refused| match refused {
        Error::Refused(Reason::MessageNotFound, _) => hidden(),
        refused => refused,
    })?;
    if holder.is_some() { Ok(attachment) } else { Err(hidden()) }
}

/// The refusal where there is no place for bytes.
const OFF: Error =
    Error::Refused(Reason::AttachmentsOff, "this installation keeps no bytes of attachments");

fn incomplete() -> Error {
    let rest = "not all bytes of the attachment are there";
    Error::Refused(Reason::AttachmentIncomplete, rest)
}

/// The place of a message in the log of an attachment.
fn in_log(id: AttachmentId, seq: Option<Seq>) -> Option<MessageId> {
    seq.map(|seq| MessageId { log_id: id.log_id, seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_of_the_latest_stream_that_began_before_it() {
        let spans = Spans(vec![(0, 1), (5, 2), (9, 4)]);
        assert_eq!([0, 4, 5, 8, 9, 10].map(|part| spans.stream_of(part)), [1, 1, 2, 2, 4, 4]);
        // The bytes were wrong, and came anew from the beginning, and then in two streams.
        let spans = Spans(vec![(0, 3), (5, 2), (8, 4)]);
        assert_eq!([0, 6, 8].map(|part| spans.stream_of(part)), [3, 3, 4]);
    }
}
