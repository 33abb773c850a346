//! What logs are made of. Knows neither gRPC nor SQL.

mod access;
mod content;
mod event;
mod listing;
mod logs;
mod member;

pub use access::{Actor, Visible};
pub use content::{Content, InvalidContent};
pub use event::{Appended, EpochId, Fact, FactBatch, LogIdentity, Source, StoredEvent};
pub use listing::{Listing, Page, Position};
pub use logs::{Difference, Logs, Mark, NewContent, NewMessage, Receipts, Recounted};
pub use member::{Effects, History, PostRule, Role, RoomKind, Rules};

use std::sync::Arc;

use parlance_types::{LogId, MessageId, Micros, RequestId, Seq, TenantId, UserId};

/// A message somebody wants to send. What is wrong with it can only be known by the log.
#[derive(Clone, Debug)]
pub struct Draft {
    pub log_id: LogId,
    /// `None`: the system, which needs no membership.
    pub sender: Option<UserId>,
    pub request_id: Option<RequestId>,
    pub content: Content,
    pub uncounted: bool,
}

/// An accepted message; the same for every repeat of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub message_id: MessageId,
    pub time: Micros,
    /// The epoch the message was stored in.
    pub epoch: EpochId,
}

/// A new content for a message.
#[derive(Clone, Debug)]
pub struct Edit {
    pub tenant_id: TenantId,
    pub message_id: MessageId,
    /// `None`: the system.
    pub editor: Option<UserId>,
    pub request_id: Option<RequestId>,
    /// Its `reply_to` is ignored: an edit keeps the message's.
    pub content: Content,
}

/// An accepted edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    pub seq: Seq,
    pub time: Micros,
}

/// A message somebody wants to delete for everyone.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub tenant_id: TenantId,
    pub message_id: MessageId,
    /// `None`: the system, which may delete everything.
    pub actor: Option<UserId>,
}

/// A message as it reads now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub message_id: MessageId,
    pub sender: Option<UserId>,
    /// `None` once it was deleted for everyone.
    pub content: Option<Content>,
    pub time: Micros,
    pub uncounted: bool,
    /// Place and time of the edit that holds the present content.
    pub edit: Option<(Seq, Micros)>,
    /// Place of the deletion.
    pub deleted: Option<Seq>,
}

/// What a viewer may see of a log, read together with the log's head in one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub tenant_id: TenantId,
    pub log_id: LogId,
    pub room_id: parlance_types::RoomId,
    pub kind: RoomKind,
    pub rules: Rules,
    pub head: Seq,
    pub epoch: EpochId,
    /// The first event still stored.
    pub first_seq: Seq,
    /// Where the log was closed.
    pub closed: Option<Seq>,
    /// The viewer's membership; `None` for strangers and for viewers who are nobody.
    pub member: Option<Membership>,
}

/// A present membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    pub role: Role,
    /// The event that made the user a member.
    pub joined: Seq,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub read: Seq,
    pub delivered: Seq,
    /// Whether this call moved anything.
    pub moved: bool,
}

/// Hears of everything that was stored, in log order per log, right after the commit.
/// Must not block.
pub type Publish = Arc<dyn Fn(Vec<Appended>) + Send + Sync>;
