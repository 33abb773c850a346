//! Pages of messages.

use futures::future::BoxFuture;
use parlance_log::{Actor, Error, Person, Stands, View};
use parlance_rpc::Reason;
use parlance_types::{LogId, PageSize, Query, RoomId, Seq, UserId, fitting};

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
        let viewer = actor.user.as_ref();
        let read = async |log_id| {
            // Of a token that is not of this query is told to those who may see the room.
            let range = listing.range(actor, log_id).unwrap_or(Range::Before(0));
            page(&self.store, log_id, viewer, range, listing.limit()).await
        };
        let (view, messages) = self.store.present_view(actor, &listing.room_id, read).await?;
        match view.visible_to(viewer) {
            Ok(_) => {}
            Err(Error::Refused(Reason::NotAMember, _)) if listing.preview => {
                return self.preview(viewer, listing, &view).await;
            }
            Err(refused) => return Err(refused),
        }
        listing.is_left(&view)?;
        let page = listing.page(actor, &view, messages)?;
        if let (true, Some(user), Some(newest)) = (listing.mark_read, viewer, page.messages.last())
        {
            self.on_read.read(&view, user, newest.message_id.seq).await?;
        }
        Ok(page)
    }

    /// The latest messages, for somebody who is not a member.
    async fn preview(
        &self,
        viewer: Option<&UserId>,
        listing: &Listing,
        view: &View,
    ) -> Result<Page, Error> {
        // A stranger has no row that says this.
        let person = match viewer {
            Some(user) => self.store.person(&view.tenant_id, user).await?,
            None => Person::default(),
        };
        if person.suspended_until > self.store.now() {
            return Err(Error::Suspended { until: person.suspended_until });
        }
        view.preview()?;
        if !listing.page_token.is_empty() {
            return Err(Error::invalid("page_token", "must be empty: a preview has one page"));
        }
        if listing.mark_read {
            return Err(Error::invalid("mark_read", "must not be set in a preview"));
        }
        // Read as nobody, who sees all; that there are previews is to hold then, too.
        let latest = Range::Before(Seq::MAX);
        let found = page(&self.store, view.log_id, None, latest, PREVIEW).await?;
        let (view, mut messages) = found.ok_or(Error::room_not_found())?;
        view.preview()?;
        let is_blocked = |sender: &UserId| person.blocked.has(sender.as_str());
        messages.retain(|message| !message.sender.as_ref().is_some_and(is_blocked));
        Ok(Page { messages, ..Page::default() })
    }
}

impl Listing {
    /// Where the page begins; fails with a token that is not of this query.
    fn range(&self, actor: &Actor, log_id: LogId) -> Result<Range, Error> {
        let at = self.query(actor, log_id).position::<Seq>(&self.page_token);
        let at = at.map_err(|invalid| Error::invalid("page_token", invalid.to_string()))?;
        Ok(match self.position {
            Position::Latest => Range::Before(at.unwrap_or(Seq::MAX)),
            Position::Before(seq) => Range::Before(at.unwrap_or(seq)),
            Position::After(seq) => Range::After(at.unwrap_or(seq)),
            Position::Around(seq) => Range::Around(seq),
        })
    }

    /// Whether the position that is named is not pruned; a token goes on with what is left.
    fn is_left(&self, view: &View) -> Result<(), Error> {
        let first = view.first_seq;
        let pruned = match self.position {
            Position::Latest => false,
            Position::Before(seq) | Position::Around(seq) => seq < first,
            // From the beginning on, whatever it is, there is always something.
            Position::After(seq) => seq > 0 && seq < first - 1,
        };
        if pruned && self.page_token.is_empty() { Err(Error::Pruned { first }) } else { Ok(()) }
    }

    /// How many messages to read: one more than asked for tells whether there is a next page.
    fn limit(&self) -> usize {
        match self.position {
            Position::Around(_) => self.size.get(),
            _ => self.size.get() + 1,
        }
    }

    /// The page that was read.
    fn page(&self, actor: &Actor, view: &View, mut messages: Vec<Message>) -> Result<Page, Error> {
        let range = self.range(actor, view.log_id)?;
        let size = self.size.get();
        let end = match range {
            Range::Before(_) => {
                messages.reverse();
                let end = cut(&mut messages, size);
                messages.reverse();
                end
            }
            Range::After(_) => cut(&mut messages, size),
            Range::Around(seq) => {
                narrow(&mut messages, seq);
                None
            }
        };
        let next = end.map(|seq| self.query(actor, view.log_id).token(seq));
        let next_page_token = next.unwrap_or_default();
        // Only now: the token goes on behind what was read.
        messages.retain(|message| !message.is_left_out(view));
        Ok(Page { messages, next_page_token, stands: Some(view.stands()) })
    }

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

/// Leaves those of the first `size` messages that fit into one answer; the place of the last of
/// them, if there is more. One message beyond is enough to tell.
pub(crate) fn cut(messages: &mut Vec<Message>, size: usize) -> Option<Seq> {
    let read = messages.len();
    messages.truncate(fitting(messages.iter().take(size).map(Message::size)));
    let last = messages.last().filter(|_| messages.len() < read);
    last.map(|last| last.message_id.seq)
}

/// Leaves the messages next to `seq` that fit into one answer.
fn narrow(messages: &mut Vec<Message>, seq: Seq) {
    let middle = messages.partition_point(|message| message.message_id.seq < seq);
    let mut nearest: Vec<usize> = (0..messages.len()).collect();
    nearest.sort_by_key(|at| at.abs_diff(middle));
    let fit = fitting(nearest.iter().map(|at| messages[*at].size()));
    nearest.truncate(fit);
    if let (Some(first), Some(last)) = (nearest.iter().min(), nearest.iter().max()) {
        messages.truncate(last + 1);
        messages.drain(..first);
    }
}
