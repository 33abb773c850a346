//! How far back a log can be read.

pub mod grpc;
mod store;

use parlance_log::{Actor, Error, RequestKey, Role, RoomKind, Store, View};
use parlance_rpc::Reason;
use parlance_types::{LogId, MessageId, RoomId, Seq, UserId};

/// Where the history of a room was cleared for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared {
    pub seq: Seq,
    /// The first event that is left.
    pub first: Seq,
}

/// A history that is to be cleared for all.
#[derive(Clone, Debug)]
struct Clearing {
    actor: Actor,
    log_id: LogId,
    request: RequestKey,
    /// `None`: all that there is.
    through: Option<Seq>,
}

/// Clears the histories of rooms.
#[derive(Clone, Debug)]
pub struct History {
    store: Store,
}

impl History {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Clears a room's history for `user` alone, up to an event of it or all that there is.
    /// Says up to where nothing is shown to them now.
    ///
    /// Refused with ROOM_NOT_FOUND, NOT_A_MEMBER, MESSAGE_NOT_FOUND.
    pub async fn clear(
        &self,
        actor: &Actor,
        user: &UserId,
        room_id: &RoomId,
        through: Option<MessageId>,
    ) -> Result<Seq, Error> {
        let clear = async |log_id| {
            if through.is_some_and(|through| through.log_id != log_id) {
                return Err(self.of_another_room(actor, room_id).await);
            }
            store::clear(&self.store, log_id, user, through.map(|through| through.seq)).await
        };
        self.store.on_log(actor, room_id, clear).await
    }

    /// Clears a room's history for everybody, up to an event of it or all that there is. A
    /// repeat of the request gets the first reply.
    ///
    /// Refused with ROOM_NOT_FOUND, NOT_A_MEMBER, NOT_ALLOWED, MESSAGE_NOT_FOUND,
    /// REQUEST_ID_REUSED; fails with `Pruned`.
    pub async fn clear_for_all(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        through: Option<MessageId>,
        request: &RequestKey,
    ) -> Result<Cleared, Error> {
        let clear = async |log_id| {
            if through.is_some_and(|through| through.log_id != log_id) {
                return Err(self.of_another_room(actor, room_id).await);
            }
            let (actor, request) = (actor.clone(), request.clone());
            let through = through.map(|through| through.seq);
            self.store.run(Clearing { actor, log_id, request, through }).await
        };
        self.store.on_log(actor, room_id, clear).await
    }

    /// What the actor is told who names a message of another room.
    async fn of_another_room(&self, actor: &Actor, room_id: &RoomId) -> Error {
        let sees = async || {
            let view = self.store.view_of_room(actor, room_id).await?;
            view.visible_to(actor.user.as_ref())
        };
        let field = "through_message_id";
        sees().await.err().unwrap_or_else(|| Error::invalid(field, "must be of the room"))
    }
}

/// Up to where nothing is shown to the member whose view it is, who wanted it to be at
/// least `through`; `None` if there should be more to clear.
fn cleared(view: &View, user: &UserId, through: Option<Seq>) -> Result<Option<Seq>, Error> {
    view.visible_to(Some(user))?;
    if through.is_some_and(|through| through > view.head) {
        return Err(Error::message_not_found());
    }
    let cleared = view.member.map_or(0, |member| member.cleared).max(view.first_seq - 1);
    Ok((cleared >= through.unwrap_or(view.head)).then_some(cleared))
}

/// Whether `view`, made for the actor, lets them clear the history for all up to `through`.
fn for_all(view: &View, actor: Option<&UserId>, through: Option<Seq>) -> Result<(), Error> {
    view.visible_to(actor)?;
    let role = view.member.map_or(Role::Owner, |member| member.role);
    if role < Role::Owner && view.kind != RoomKind::Direct {
        let owners = "only owners clear the history for all";
        return Err(Error::Refused(Reason::NotAllowed, owners));
    }
    match through {
        Some(through) if through > view.head => Err(Error::message_not_found()),
        Some(through) if through < view.first_seq => Err(Error::Pruned { first: view.first_seq }),
        _ => Ok(()),
    }
}
