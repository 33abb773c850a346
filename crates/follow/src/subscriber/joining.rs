//! Rooms on their way to being followed, and what a stream holds back until it has begun.
//!
//! A stream that names the rooms a, b and c has begun once one of them is attached. Until then
//! nothing is told, so that the call itself can fail:
//!
//! ```text
//! b   NOT_A_MEMBER       held back
//! c   store unavailable  held back, and not tried again
//! a   attached           now: Closed b, Attached a; c is tried again
//! a   refused instead    nothing was attached: the call fails as unavailable, for c;
//!                        without c as a was refused, the first that was named
//! ```

use std::collections::{BTreeMap, VecDeque};

use parlance_proto::message::v1 as pb;
use parlance_types::RoomId;

use crate::failure::{Refused, Unavailable};
use crate::hub::Target;

#[derive(Debug, Default)]
pub(super) struct Joining {
    rooms: BTreeMap<RoomId, Joiner>,
    /// The ones whose turn has not come.
    waiting: VecDeque<RoomId>,
    /// How many are being attached.
    running: usize,
    /// The client was told something; until then a failure fails the call.
    begun: bool,
    /// Named rooms that were refused before the first was not.
    refused: BTreeMap<usize, (RoomId, Refused)>,
    /// Rooms that could not be attached before the first was, and why one of them.
    failed: Option<(Vec<RoomId>, Unavailable)>,
}

/// A room on its way to being followed.
#[derive(Clone, Debug)]
pub(super) struct Joiner {
    pub(super) target: Target,
    /// The cursor that a client goes on with if it is sent away.
    pub(super) cursor: Option<pb::Cursor>,
    pub(super) origin: Origin,
}

/// Why a room is being attached, and so who is told when it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The client named it, as the n-th.
    Named(usize),
    /// The user is a member of it.
    Listed,
    /// It was followed until its ring was dropped.
    Followed,
}

/// The rooms that were held back until the first one was attached.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    /// In the order in which they were named.
    pub(super) refused: Vec<(RoomId, Refused)>,
    pub(super) failed: Vec<RoomId>,
}

impl Joining {
    /// `begun`: nothing is held back.
    pub(super) fn new(begun: bool) -> Self {
        Self { begun, ..Self::default() }
    }

    pub(super) fn add(&mut self, joiner: Joiner) {
        let room_id = joiner.target.room_id.clone();
        self.wait(room_id.clone());
        self.rooms.insert(room_id, joiner);
    }

    /// Puts a room behind those whose turn has not come.
    pub(super) fn wait(&mut self, room_id: RoomId) {
        self.waiting.push_back(room_id);
    }

    /// The next room to attach, if no more than `most` are then.
    pub(super) fn next(&mut self, most: usize) -> Option<Target> {
        while self.running < most {
            let room_id = self.waiting.pop_front()?;
            if let Some(joiner) = self.rooms.get(&room_id) {
                self.running += 1;
                return Some(joiner.target.clone());
            }
        }
        None
    }

    /// A room that was being attached is not any more.
    pub(super) fn ran(&mut self) {
        self.running -= 1;
    }

    /// A room is followed: gives out what was held back.
    pub(super) fn attached(&mut self, room_id: &RoomId) -> HeldBack {
        self.rooms.remove(room_id);
        self.begun = true;
        let failed = self.failed.take().map(|(rooms, _)| rooms);
        HeldBack {
            refused: std::mem::take(&mut self.refused).into_values().collect(),
            failed: failed.unwrap_or_default(),
        }
    }

    /// A room was refused. Returns where it came from, unless that is held back.
    pub(super) fn refused(&mut self, room_id: &RoomId, refused: Refused) -> Option<Origin> {
        let origin = self.rooms.remove(room_id)?.origin;
        match origin {
            Origin::Named(at) if !self.begun => {
                self.refused.insert(at, (room_id.clone(), refused));
                None
            }
            origin => Some(origin),
        }
    }

    /// A room could not be attached. Says whether it is to be tried again: until the first
    /// one is attached, the others are waited for.
    pub(super) fn failed(&mut self, room_id: &RoomId, unavailable: Unavailable) -> bool {
        if !self.begun {
            let (rooms, _) = self.failed.get_or_insert((Vec::new(), unavailable));
            rooms.push(room_id.clone());
        }
        self.begun
    }

    /// Why the call fails: nothing came of any room, and of some for want of the store.
    pub(super) fn failure(&mut self) -> Option<Unavailable> {
        let waits = self.running > 0 || !self.waiting.is_empty();
        let failed = self.failed.take_if(|_| !waits);
        failed.map(|(_, unavailable)| unavailable)
    }

    /// Why the first room that was named was refused, if all of them were.
    pub(super) fn refusal(&mut self) -> Option<Refused> {
        self.refused.pop_first().map(|(_, (_, refused))| refused)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    pub(super) fn contains(&self, room_id: &RoomId) -> bool {
        self.rooms.contains_key(room_id)
    }

    /// The rooms, and what a client that is sent away goes on with in them.
    pub(super) fn cursors(&self) -> impl Iterator<Item = (RoomId, Option<pb::Cursor>)> {
        self.rooms.iter().map(|(room_id, joiner)| (room_id.clone(), joiner.cursor.clone()))
    }
}
