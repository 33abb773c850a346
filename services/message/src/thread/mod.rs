//! Threads: a message and the replies to it.

pub mod grpc;
mod store;

use parlance_log::{Actor, Error, Store, View};
use parlance_types::{MessageId, PageSize, Query, RoomId};

pub(crate) use self::store::discount_deleted;

use crate::message::{Message, cut};

/// Replies in ascending order.
#[derive(Clone, Debug)]
pub struct Replies {
    pub room_id: RoomId,
    pub replies: Vec<Message>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// The threads of all rooms.
#[derive(Clone, Debug)]
pub struct Threads {
    store: Store,
}

impl Threads {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// One page of the replies in the thread that begins with a message.
    ///
    /// Refused with MESSAGE_NOT_FOUND, NOT_A_MEMBER.
    pub async fn replies(
        &self,
        actor: &Actor,
        root: MessageId,
        size: PageSize,
        page_token: &str,
    ) -> Result<Replies, Error> {
        let query = query(actor, root);
        // Of a token that is not of this query is told to those who may see the room.
        let after = query.position(page_token);
        let at = after.as_ref().map_or(root.seq, |after| after.unwrap_or(root.seq));
        let viewer = actor.user.as_ref();
        let (limit, root_seq) = (size.get(), root.seq);
        let read =
            async |log_id| store::page(&self.store, log_id, viewer, root_seq, at, limit + 1).await;
        let found = self.store.read_met(actor, root.log_id, read).await?;
        let (view, mut replies): (View, Vec<Message>) = found.ok_or(Error::message_not_found())?;
        view.shows_to(actor, root)?;
        if replies.first().is_none_or(|first| first.message_id != root) {
            return Err(Error::message_not_found());
        }
        replies.remove(0);
        after.map_err(|invalid| Error::invalid("page_token", invalid.to_string()))?;
        let next = cut(&mut replies, limit).map(|last| query.token(last));
        let next_page_token = next.unwrap_or_default();
        replies.retain(|reply| !reply.is_left_out(&view));
        Ok(Replies { room_id: view.room_id, replies, next_page_token })
    }
}

/// The query that page tokens are bound to.
fn query(actor: &Actor, root: MessageId) -> Query {
    let user = actor.user.as_ref().map_or("", |user| user.as_str());
    Query::new(&["ListReplies", actor.tenant_id.as_str(), user, &root.to_string()])
}
