//! Pages of messages.

use futures::future::BoxFuture;
use parlance_log::{Actor, Error, Stands, View, Visible};
use parlance_rpc::Reason;
use parlance_types::{LogId, PageSize, Query, RoomId, Seq, UserId};

use super::store::{Range, page};
use super::{Message, Messages};

/// How many messages a preview shows.
const PREVIEW: usize = 20;

/// Where to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The latest messages, paging towards older ones.
    Latest,
    Before(Seq),
    After(Seq),
    /// One page with messages on both sides.
    Around(Seq),
}

/// A page of messages that somebody asks for.
#[derive(Clone, Debug)]
pub struct Listing {
    pub room_id: RoomId,
    pub position: Position,
    pub size: PageSize,
    /// Empty: the first page.
    pub page_token: String,
    /// Whether to read as somebody who is not a member.
    pub preview: bool,
    /// Whether the page is marked as read.
    pub mark_read: bool,
}

/// Messages in ascending order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub messages: Vec<Message>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Where the log stood; `None`: for somebody who may not follow it.
    pub stands: Option<Stands>,
}

/// Hears of a page that was shown to a member who has read it up to its newest message.
pub trait OnRead: std::fmt::Debug + Send + Sync {
    fn read<'a>(
        &'a self,
        view: &'a View,
        user: &'a UserId,
        newest: Seq,
    ) -> BoxFuture<'a, Result<(), Error>>;
}

impl Messages {
    /// One page of a room's messages. `mark_read` needs a user.
    pub async fn list(&self, actor: &Actor, listing: &Listing) -> Result<Page, Error> {
        let view = self.store.view_of_room(actor, &listing.room_id).await?;
        let mut page = self.page(actor, listing, &view).await?;
        page.stands = view.visible_to(actor.user.as_ref()).is_ok().then(|| view.stands());
        if let (true, Some(user), Some(newest)) =
            (listing.mark_read, &actor.user, page.messages.last())
        {
            self.on_read.read(&view, user, newest.message_id.seq).await?;
        }
        Ok(page)
    }

    async fn page(&self, actor: &Actor, listing: &Listing, view: &View) -> Result<Page, Error> {
        let visible = match view.visible_to(actor.user.as_ref()) {
            Ok(visible) => visible,
            Err(Error::Refused(Reason::NotAMember, _)) if listing.preview => {
                return self.preview(listing, view).await;
            }
            Err(refused) => return Err(refused),
        };
        let query = listing.query(actor, view.log_id);
        let at = query.position::<Seq>(&listing.page_token);
        let at = at.map_err(|invalid| Error::invalid("page_token", invalid.to_string()))?;
        let range = match listing.position {
            Position::Latest => Range::Before(at.unwrap_or(view.head + 1)),
            Position::Before(seq) => Range::Before(at.unwrap_or(seq)),
            Position::After(seq) => Range::After(at.unwrap_or(seq)),
            Position::Around(seq) => {
                let messages = self.around(view.log_id, seq, visible, listing.size.get()).await?;
                return Ok(Page { messages, ..Page::default() });
            }
        };
        // One more than asked for tells whether there is a next page.
        let size = listing.size.get();
        let mut messages = page(self.store.db(), view.log_id, range, visible, size + 1).await?;
        let more = messages.len() > size;
        let end = match range {
            Range::Before(_) => {
                messages.drain(..messages.len().saturating_sub(size));
                messages.first()
            }
            Range::After(_) => {
                messages.truncate(size);
                messages.last()
            }
        };
        let next = end.filter(|_| more).map(|message| query.token(message.message_id.seq));
        Ok(Page { messages, next_page_token: next.unwrap_or_default(), stands: None })
    }

    /// Half of the page before `seq`, half from it on.
    async fn around(
        &self,
        log_id: LogId,
        seq: Seq,
        visible: Visible,
        size: usize,
    ) -> Result<Vec<Message>, Error> {
        let before = size / 2;
        let mut messages =
            page(self.store.db(), log_id, Range::Before(seq), visible, before).await?;
        let after = Range::After(seq - 1);
        messages.extend(page(self.store.db(), log_id, after, visible, size - before).await?);
        Ok(messages)
    }

    /// The latest messages, for somebody who is not a member.
    async fn preview(&self, listing: &Listing, view: &View) -> Result<Page, Error> {
        let visible = view.preview()?;
        if !listing.page_token.is_empty() {
            return Err(Error::invalid("page_token", "must be empty: a preview has one page"));
        }
        if listing.mark_read {
            return Err(Error::invalid("mark_read", "must not be set in a preview"));
        }
        let latest = Range::Before(view.head + 1);
        let messages = page(self.store.db(), view.log_id, latest, visible, PREVIEW).await?;
        Ok(Page { messages, ..Page::default() })
    }
}

impl Listing {
    /// The query that page tokens are bound to: all that says which messages come
    /// next. It names the log, so a token does not outlive the room.
    fn query(&self, actor: &Actor, log_id: LogId) -> Query {
        let (direction, seq) = match self.position {
            Position::Latest => ("latest", 0),
            Position::Before(seq) => ("before", seq),
            Position::After(seq) => ("after", seq),
            Position::Around(seq) => ("around", seq),
        };
        Query::new(&[
            "ListMessages",
            actor.tenant_id.as_str(),
            actor.user.as_ref().map_or("", |user| user.as_str()),
            self.room_id.as_str(),
            &log_id.to_string(),
            direction,
            &seq.to_string(),
        ])
    }
}
