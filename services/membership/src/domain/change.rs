//! Changes of a roster: what is asked, what is known, what follows.

use std::collections::{BTreeMap, BTreeSet};

use parlance_types::{RequestId, RoomId, UserId};

use super::{Grant, MemberRow, Membership, Role, Roster, State};

/// Names an attempt, so that its repeat is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    pub request_id: RequestId,
    /// Hash of everything that was asked.
    pub hash: [u8; 32],
}

/// What somebody wants to change in a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Join,
    Leave { successor: Option<UserId> },
    Add { user_ids: Vec<UserId> },
    Remove { user_ids: Vec<UserId>, reason: String },
    SetRole { user_id: UserId, role: Role, successor: Option<UserId> },
}

impl Change {
    /// The users it names.
    pub fn names(&self) -> Vec<&UserId> {
        match self {
            Self::Join => Vec::new(),
            Self::Leave { successor } => successor.iter().collect(),
            Self::Add { user_ids } | Self::Remove { user_ids, .. } => user_ids.iter().collect(),
            Self::SetRole { user_id, successor, .. } => {
                std::iter::once(user_id).chain(successor).collect()
            }
        }
    }
}

/// What is known about a roster, under its lock, when a change is decided.
#[derive(Clone, Debug)]
pub struct Scene {
    pub roster: Roster,
    /// Those of the actor and the named who are or were members.
    pub rows: BTreeMap<UserId, MemberRow>,
    /// Those of the users to be added who exist in the tenant.
    pub known: BTreeSet<UserId>,
    /// How many present members are owners.
    pub owners: i64,
}

impl Scene {
    /// What the roster keeps of a user who is a member now.
    pub fn present(&self, user_id: &UserId) -> Option<&MemberRow> {
        self.rows.get(user_id).filter(|row| row.state == State::Present)
    }
}

/// One step of a change: one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Gained(Vec<Grant>),
    Lost { user_ids: Vec<UserId>, removed: bool, reason: String },
    Roles(Vec<Grant>),
}

/// What a change comes to; without steps it has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub steps: Vec<Step>,
    pub outcome: Outcome,
}

/// What the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Joined { membership: Membership, already: bool },
    Left,
    Added { added: Vec<Membership>, already: Vec<UserId> },
    Removed { user_ids: Vec<UserId> },
    RoleSet { membership: Membership },
}

/// Why a change or a look is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the room does not exist")]
    RoomNotFound,

    #[error("the user {user_id:?} does not exist")]
    UserNotFound { user_id: String },

    #[error("the user {user_id:?} is not a member of the room")]
    MemberNotFound { user_id: String },

    #[error("the caller is not a member of the room")]
    NotAMember,

    #[error("{0}")]
    NotAllowed(&'static str),

    #[error("members of this room are added, they cannot join")]
    JoinRestricted,

    #[error("the user was removed from the room and can only be added again")]
    RemovedFromRoom,

    #[error("the room would be left without an owner: name a successor")]
    LastOwner,

    #[error("the members of a direct room do not change")]
    DirectRoom,

    #[error("the room takes at most {capacity} members")]
    RoomFull { capacity: i32 },

    #[error("another open room holds the id")]
    RoomIdTaken,
}

impl Refused {
    pub fn no_user(user_id: &UserId) -> Self {
        Self::UserNotFound { user_id: user_id.as_str().to_owned() }
    }

    pub fn no_member(user_id: &UserId) -> Self {
        Self::MemberNotFound { user_id: user_id.as_str().to_owned() }
    }
}

impl Membership {
    pub fn of(room_id: &RoomId, user_id: &UserId, row: &MemberRow) -> Self {
        let (room_id, user_id) = (room_id.clone(), user_id.clone());
        Self { room_id, user_id, role: row.role, joined: row.joined }
    }
}
