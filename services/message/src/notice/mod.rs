//! Notices: what streams are told that no log holds.

pub mod grpc;

use parlance_follow::Hub;
use parlance_log::{Actor, Error, Store, View};
use parlance_rpc::{Caller, RateLimit, Refusal};
use parlance_types::RoomId;

/// The most users that a notice names.
const MAX_USERS: usize = 100;

/// How many notices a user or an operator says in a second, and a service. Each may be told to
/// very many streams.
const EACH: u32 = 20;
const EACH_SERVICE: u32 = 500;

/// Tells those who follow rooms what is not kept.
#[derive(Clone, Debug)]
pub struct Notices {
    store: Store,
    hub: Hub,
    rates: [Option<RateLimit>; 2],
}

impl Notices {
    pub fn new(store: Store, hub: Hub) -> Self {
        let rates = [
            RateLimit::new(EACH, 2 * EACH),
            RateLimit::of_services(EACH_SERVICE, 2 * EACH_SERVICE),
        ];
        Self { store, hub, rates }
    }

    /// Counts a notice of a caller.
    fn admit(&self, caller: &Caller) -> Result<(), Refusal> {
        self.rates.iter().flatten().try_for_each(|rate| rate.check(caller))
    }

    /// The room, if the actor may say something there.
    ///
    /// Refused with ROOM_NOT_FOUND, NOT_A_MEMBER, SUSPENDED, MUTED, BLOCKED,
    /// POSTING_RESTRICTED.
    async fn room(&self, actor: &Actor, room_id: &RoomId) -> Result<View, Error> {
        let room = self.store.view_of_room(actor, room_id).await?;
        room.visible_to(actor.user.as_ref())?;
        room.may_write(self.store.now())?;
        room.may_post()?;
        Ok(room)
    }
}
