//! What users take out of their own lists and pages.

pub mod grpc;
mod store;

use parlance_log::{Actor, Error, Store, View};
use parlance_rpc::Reason;
use parlance_types::{LogId, MessageId, RoomId, Seq, UserId};

pub(crate) use self::store::forget_pruned;

/// The most messages that a member hides in a room.
const MAX_HIDDEN: usize = 1000;

/// Messages of one log that somebody wants to hide from themselves.
#[derive(Clone, Debug)]
struct Hiding {
    actor: Actor,
    /// The actor's user.
    user: UserId,
    log_id: LogId,
    /// Each once.
    messages: Vec<Seq>,
}

/// Hides rooms from the lists of their members, and messages from those.
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

    /// Hides messages of one room from `user` for as long as they are a member: all, or none if
    /// one is refused. Gives those that were not hidden before, and a view of the room.
    ///
    /// Refused with MESSAGE_NOT_FOUND, NOT_A_MEMBER, TOO_MANY_HIDDEN.
    pub async fn hide_messages(
        &self,
        actor: &Actor,
        user: &UserId,
        log_id: LogId,
        messages: Vec<Seq>,
    ) -> Result<(View, Vec<Seq>), Error> {
        let Some(seq) = messages.first().copied() else { return Err(Error::message_not_found()) };
        let (actor, user) = (actor.clone(), user.clone());
        let hiding = Hiding { actor: actor.clone(), user, log_id, messages };
        self.store.change_message(&actor, MessageId { log_id, seq }, hiding).await
    }

    /// Lets go of what is left of memberships that ended. To be called every few seconds.
    pub async fn sweep(&self) -> Result<(), Error> {
        store::sweep(self.store.db()).await
    }
}

/// Those of the messages that are hidden anew beside those that are `before`, if `view`, made for
/// the user, lets them: it must show all that are wanted and have one for each that was `found`.
fn hide(view: &View, hiding: &Hiding, found: usize, before: &[Seq]) -> Result<Vec<Seq>, Error> {
    for message in &hiding.messages {
        view.shows(Some(&hiding.user), *message)?;
    }
    if found < hiding.messages.len() {
        return Err(Error::message_not_found());
    }
    let mut new = hiding.messages.clone();
    new.retain(|message| !before.contains(message));
    if before.len() + new.len() > MAX_HIDDEN {
        let most = "a user hides at most 1000 messages of a room";
        return Err(Error::Refused(Reason::TooManyHidden, most));
    }
    Ok(new)
}
