//! What users take out of their own lists.

pub mod grpc;
mod store;

use parlance_log::{Actor, Error, Store};
use parlance_types::{RoomId, UserId};

/// Hides rooms from the lists of their members.
#[derive(Clone, Debug)]
pub struct Hider {
    store: Store,
}

impl Hider {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Hides a room from the list of `user`, until its next countable message.
    ///
    /// Refused with ROOM_NOT_FOUND, NOT_A_MEMBER.
    pub async fn hide_room(
        &self,
        actor: &Actor,
        user: &UserId,
        room_id: &RoomId,
    ) -> Result<(), Error> {
        let hide = |log_id| store::hide(&self.store, log_id, user);
        self.store.on_log(actor, room_id, hide).await
    }
}
