//! Mentions: messages that call on their readers.

pub mod grpc;
mod store;

use parlance_log::{Actor, Error, Store};
use parlance_types::{LogId, PageSize, Query, RoomId, Seq, UserId};

pub(crate) use self::store::{unmention_deleted, unmention_pruned};

use crate::message::{Message, cut};

/// Messages that mention somebody, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Mentioned {
    pub messages: Vec<Message>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// The mentions of all rooms.
#[derive(Clone, Debug)]
pub struct Mentioning {
    store: Store,
}

impl Mentioning {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// One page of the messages of a room that mention a user, the newest first.
    ///
    /// Refused with ROOM_NOT_FOUND, NOT_A_MEMBER.
    pub async fn list(
        &self,
        actor: &Actor,
        user: &UserId,
        room_id: &RoomId,
        size: PageSize,
        page_token: &str,
    ) -> Result<Mentioned, Error> {
        let limit = size.get();
        let read = async |log_id| {
            // Of a token that is not of this query is told to those who may see the room.
            let before = query(actor, user, log_id).position(page_token);
            let before = before.ok().flatten().unwrap_or(Seq::MAX);
            store::page(&self.store, log_id, user, before, limit + 1).await
        };
        let (view, mut messages) = self.store.present_view(actor, room_id, read).await?;
        view.visible_to(Some(user))?;
        let query = query(actor, user, view.log_id);
        let position = query.position::<Seq>(page_token);
        position.map_err(|invalid| Error::invalid("page_token", invalid.to_string()))?;
        messages.reverse();
        let next = cut(&mut messages, limit).map(|last| query.token(last));
        let next_page_token = next.unwrap_or_default();
        messages.retain(|message| !message.is_left_out(&view));
        Ok(Mentioned { messages, next_page_token })
    }
}

/// The query that page tokens are bound to. It names the log, so that a token does not outlive
/// the room.
fn query(actor: &Actor, user: &UserId, log_id: LogId) -> Query {
    let log_id = log_id.to_string();
    Query::new(&["ListMentions", actor.tenant_id.as_str(), user.as_str(), &log_id])
}
