//! The log of a room, and nothing that is in it.
//!
//! Everything that happens in a room is an event in its log: numbered under the lock of
//! the log's head, encoded once, stored, and told to those who follow. What changes a log
//! waits in the queue of the log's writer (`write`), which appends messages in batches
//! (`send`), and in others each [`Change`] of a noun, and runs facts of the services above
//! (`facts`) alone.

mod access;
mod attach;
mod broadcast;
mod change;
mod closed;
pub mod codec;
mod epoch;
mod error;
mod event;
mod facts;
mod head;
mod hidden;
mod kind;
mod member;
mod person;
mod prune;
mod purge;
mod read;
mod room_id;
mod send;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod view;
mod write;

pub use access::{Actor, may_be_outdated};
pub use attach::{Upload, attachable};
pub use change::Change;
pub use epoch::{CursorCheck, EpochId};
pub use error::Error;
pub use event::{Appended, NewEvent, Publish, RequestKey, StoredEvent};
pub use facts::{Applied, Fact, FactBatch, LogIdentity, Source};
pub use head::{Locked, Target, has_expired};
pub use hidden::Hidden;
pub use kind::Kind;
pub use member::{Effects, FOR_EVER, Membership, Rules, Windows};
pub use parlance_proto::message::v1::event::Body;
pub use parlance_types::{History, MemberRule, Role, RoomKind};
pub use person::{Blocked, Person, Projection, blocked};
pub use prune::OnPrune;
pub use read::{Head, LogFacts};
pub use send::{Entry, Mentions, Priority, Sent};
pub use store::Store;
pub use view::{Stands, View, ViewRow, Visible, stranger};
pub use write::Options;
