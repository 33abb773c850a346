//! Edits and deletions: who may make them.

use futures::future::BoxFuture;
use parlance_log::{Actor, Error, Locked, RequestKey, Role, Target, View};
use parlance_rpc::Reason;
use parlance_types::{MessageId, Micros, Seq, UserId};

use super::Content;

/// A new content for a message.
#[derive(Clone, Debug)]
pub struct Edit {
    pub actor: Actor,
    pub message_id: MessageId,
    pub request: RequestKey,
    /// Its `reply_to` is ignored: an edit keeps the message's.
    pub content: Content,
}

/// An accepted edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    pub seq: Seq,
    pub time: Micros,
}

/// A message that is to be deleted for everyone.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub actor: Actor,
    pub message_id: MessageId,
    pub on_delete: OnDelete,
}

/// What goes with a deleted message: each is run with the place of the deletion, within
/// its transaction and under the lock of the log.
pub type OnDelete = &'static [for<'a> fn(
    &'a mut Locked<'_>,
    &'a Target,
    Seq,
) -> BoxFuture<'a, Result<(), Error>>];

/// What a deletion comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Delete<'t> {
    Now(&'t Target),
    /// It was deleted here.
    Already(Seq),
}

/// Who sent a message; `None`: the system.
fn is_of(target: &Target, actor: Option<&UserId>) -> bool {
    target.sender_id == actor.map_or("", UserId::as_str)
}

/// Whether `view`, made for the editor, allows the edit of what was found; the message.
pub(super) fn edit<'t>(
    view: &View,
    editor: Option<&UserId>,
    message: Seq,
    target: Option<&'t Target>,
) -> Result<&'t Target, Error> {
    let target = shown(view, editor, message, target)?;
    if !is_of(target, editor) {
        return Err(not_the_sender());
    }
    if target.deleted_seq.is_some() {
        return Err(Error::Refused(Reason::MessageDeleted, "the message was deleted"));
    }
    Ok(target)
}

/// Whether `view`, made for the actor, allows the deletion of what was found. `before`:
/// the place of the actor's own deletion.
pub(super) fn delete<'t>(
    view: &View,
    actor: Option<&UserId>,
    message: Seq,
    target: Option<&'t Target>,
    before: Option<Seq>,
) -> Result<Delete<'t>, Error> {
    if let Some(before) = before {
        // A repeat, before rights are judged.
        return Ok(Delete::Already(before));
    }
    let target = shown(view, actor, message, target)?;
    let role = view.member.map_or(Role::Owner, |member| member.role);
    if !is_of(target, actor) && role < Role::Admin {
        return Err(not_the_sender());
    }
    Ok(target.deleted_seq.map_or(Delete::Now(target), Delete::Already))
}

/// The message, if a viewer may see it: in the room, and of the part of its history.
fn shown<'t>(
    view: &View,
    viewer: Option<&UserId>,
    message: Seq,
    target: Option<&'t Target>,
) -> Result<&'t Target, Error> {
    let (first, last) = view.visible_to(viewer)?;
    let seen = (first..=last).contains(&message);
    target.filter(|_| seen).ok_or(Error::message_not_found())
}

const fn not_the_sender() -> Error {
    Error::Refused(Reason::NotTheSender, "only the sender may do this")
}
