//! What clients saw, and what is stored.

use std::time::Instant;

use parlance_proto::message::v1::Event;

use crate::database::text;

/// Everything that clients recorded.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub sends: Vec<Send>,
    pub views: Vec<View>,
    pub unread: Vec<Unread>,
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
        sender: String,
        text: Option<String>,
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
    pub sender: String,
    pub request_id: String,
    /// Of a message: what it says.
    pub text: Option<String>,
    pub counted: bool,
    /// Users who are members from here on, or no longer.
    pub gained: Vec<String>,
    pub lost: Vec<String>,
}

impl Entry {
    pub fn of(seq: i64, sender: String, request_id: &str, counted: bool, event: &Event) -> Self {
        let effects = event.effects.clone().unwrap_or_default();
        Self {
            seq,
            sender,
            request_id: request_id.to_owned(),
            text: text(event),
            counted,
            gained: effects.gained.into_iter().map(|grant| grant.user_id).collect(),
            lost: effects.lost_user_ids,
        }
    }
}
