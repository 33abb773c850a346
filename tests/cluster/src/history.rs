//! What clients saw, and what is stored.

use std::collections::BTreeMap;
use std::time::Instant;

use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, Message};

/// Everything that clients recorded.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub sends: Vec<Send>,
    pub views: Vec<View>,
    pub unread: Vec<Unread>,
    pub reactions: Vec<Reacted>,
    pub messages: Vec<Listed>,
}

/// One message, sent until it was answered.
#[derive(Clone, Debug)]
pub struct Send {
    pub room: String,
    pub sender: String,
    pub request_id: String,
    pub text: String,
    pub began: Instant,
    /// Every answer that acknowledged it, in any order.
    pub acks: Vec<Ack>,
    /// Whether it was refused for good.
    pub refused: bool,
}

/// An acknowledgement.
#[derive(Clone, Debug)]
pub struct Ack {
    pub seq: i64,
    pub at: Instant,
}

/// What one user got of one room, over all of its streams.
#[derive(Clone, Debug)]
pub struct View {
    pub user: String,
    pub room: String,
    pub frames: Vec<Frame>,
}

impl View {
    /// The first number that was told.
    pub fn first_seq(&self) -> i64 {
        let seq = |frame: &Frame| match frame {
            Frame::Event { seq, .. } | Frame::Skipped { from: seq, .. } => Some(*seq),
            _ => None,
        };
        self.frames.iter().find_map(seq).unwrap_or(0)
    }

    /// The last number that was told.
    pub fn last_seq(&self) -> i64 {
        let seq = |frame: &Frame| match frame {
            Frame::Event { seq, .. } | Frame::Skipped { to: seq, .. } => Some(*seq),
            _ => None,
        };
        self.frames.iter().rev().find_map(seq).unwrap_or(0)
    }
}

/// One frame of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Attached {
        resume_from: i64,
        head: i64,
    },
    Event {
        seq: i64,
        said: Said,
    },
    Skipped {
        from: i64,
        to: i64,
    },
    CaughtUp {
        seq: i64,
    },
    /// No event up to here follows on this stream.
    Heartbeat {
        seq: i64,
    },
    Reset {
        keep_through: i64,
        resume_from: i64,
    },
    Closed {
        seq: i64,
    },
}

/// What a user was told that they have not read.
#[derive(Clone, Debug)]
pub struct Unread {
    pub user: String,
    pub room: String,
    pub unread: i64,
    /// The greatest mark that was acknowledged; 0 if none was.
    pub marked: i64,
}

/// What an event says, as the client that follows and the table have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub sender: String,
    /// Of a message: the id of the request that sent it.
    pub request_id: String,
    /// Of a message: its text.
    pub text: Option<String>,
    /// Of a reply: the message that its thread began with.
    pub root: String,
    pub reaction: Option<Reaction>,
}

/// A reaction that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    pub message_seq: i64,
    pub kind: String,
    pub added: bool,
}

impl Said {
    pub fn of(event: Event) -> Self {
        let mut said = Self { sender: event.actor_id, ..Self::default() };
        match event.body {
            Some(Body::MessageSent(sent)) => {
                said.request_id = event.request_id;
                said.text = Some(sent.content.unwrap_or_default().text);
                said.root = sent.thread_root_id;
            }
            Some(Body::ReactionAdded(added)) => {
                let (message_seq, kind) = (added.message_seq, added.kind);
                said.reaction = Some(Reaction { message_seq, kind, added: true });
            }
            Some(Body::ReactionRemoved(removed)) => {
                let (message_seq, kind) = (removed.message_seq, removed.kind);
                said.reaction = Some(Reaction { message_seq, kind, added: false });
            }
            _ => {}
        }
        said
    }
}

/// What a user knows of a reaction of theirs: that its last change was acknowledged.
#[derive(Clone, Debug)]
pub struct Reacted {
    pub room: String,
    pub user: String,
    pub message_seq: i64,
    pub kind: String,
    /// Whether it is there now.
    pub there: bool,
}

/// A message as a list shows it once all is quiet.
#[derive(Clone, Debug)]
pub struct Listed {
    pub room: String,
    pub seq: i64,
    pub message_id: String,
    pub reactions: BTreeMap<String, i64>,
    pub replies: i64,
}

impl Listed {
    pub fn of(message: Message) -> Self {
        let counts = message.reactions.into_iter().map(|count| (count.kind, count.count));
        Self {
            room: message.room_id,
            seq: message.seq,
            message_id: message.message_id,
            reactions: counts.collect(),
            replies: message.reply_count,
        }
    }
}

/// The log of a room as it is stored.
#[derive(Clone, Debug)]
pub struct StoredLog {
    pub room: String,
    pub head: i64,
    pub entries: Vec<Entry>,
}

/// One stored event.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub seq: i64,
    pub said: Said,
    pub counted: bool,
    /// Users who are members from here on, or no longer.
    pub gained: Vec<String>,
    pub lost: Vec<String>,
}

impl Entry {
    pub fn of(seq: i64, counted: bool, event: Event) -> Self {
        let effects = event.effects.clone().unwrap_or_default();
        Self {
            seq,
            said: Said::of(event),
            counted,
            gained: effects.gained.into_iter().map(|grant| grant.user_id).collect(),
            lost: effects.lost_user_ids,
        }
    }
}
