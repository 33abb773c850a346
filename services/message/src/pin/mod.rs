//! Pins: messages that a room holds up.

pub mod grpc;
mod store;

use parlance_log::{Actor, Error, Role, RoomKind, Store, Target, View};
use parlance_rpc::Reason;
use parlance_types::{MessageId, Micros, RoomId, Seq, UserId};

pub(crate) use self::store::{unpin_deleted, unpin_pruned};

use crate::message::Message;

/// The most pins of a room.
pub const MAX_PINS: i64 = 50;

/// A pinned message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub message: Message,
    /// The event that pinned it.
    pub seq: Seq,
    /// `None`: a caller that acted for nobody.
    pub pinner: Option<UserId>,
    pub time: Micros,
}

/// A message that is to be pinned.
#[derive(Clone, Debug)]
struct Pin {
    actor: Actor,
    message_id: MessageId,
}

/// A message that is to be pinned no more.
#[derive(Clone, Debug)]
struct Unpin {
    actor: Actor,
    message_id: MessageId,
}

/// The pins of all rooms.
#[derive(Clone, Debug)]
pub struct Pins {
    store: Store,
}

impl Pins {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Pins a message, and says where; pinning again gives the same place.
    ///
    /// Refused with MESSAGE_NOT_FOUND, NOT_A_MEMBER, NOT_ALLOWED, MESSAGE_DELETED,
    /// TOO_MANY_PINS.
    pub async fn pin(&self, actor: &Actor, message_id: MessageId) -> Result<Seq, Error> {
        let pin = Pin { actor: actor.clone(), message_id };
        self.store.change_message(actor, message_id, pin).await
    }

    /// Unpins a message, if it is pinned.
    ///
    /// Refused with MESSAGE_NOT_FOUND, NOT_A_MEMBER, NOT_ALLOWED.
    pub async fn unpin(&self, actor: &Actor, message_id: MessageId) -> Result<(), Error> {
        let unpin = Unpin { actor: actor.clone(), message_id };
        self.store.change_message(actor, message_id, unpin).await
    }

    /// The pins of a room that the actor may see, the latest first.
    pub async fn list(&self, actor: &Actor, room_id: &RoomId) -> Result<Vec<Pinned>, Error> {
        let viewer = actor.user.as_ref();
        let list = async |log_id| store::list(&self.store, log_id, viewer).await;
        let (view, pins) = self.store.present_view(actor, room_id, list).await?;
        view.visible_to(viewer)?;
        Ok(pins)
    }
}

/// The message that was found, if `view`, made for the actor, lets them pin and unpin it.
fn target<'t>(
    view: &View,
    actor: Option<&UserId>,
    message: Seq,
    found: Option<&'t Target>,
) -> Result<&'t Target, Error> {
    view.shows(actor, message)?;
    let target = found.ok_or(Error::message_not_found())?;
    let role = view.member.map_or(Role::Owner, |member| member.role);
    if role < Role::Admin && view.kind != RoomKind::Direct {
        return Err(Error::Refused(Reason::NotAllowed, "only owners and admins pin"));
    }
    Ok(target)
}

/// Whether one more message may be pinned now in a room that has `pins`.
fn one_more(target: &Target, pins: i64, now: Micros) -> Result<(), Error> {
    if target.is_gone(now) {
        return Err(Error::Refused(Reason::MessageDeleted, "the message was deleted"));
    }
    if pins >= MAX_PINS {
        return Err(Error::Refused(Reason::TooManyPins, "a room has at most 50 pins"));
    }
    Ok(())
}
