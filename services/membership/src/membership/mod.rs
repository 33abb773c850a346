//! Memberships: how users come into rooms, leave them and change roles there.

use parlance_types::{LogId, Role, UserId};

use crate::roster::{Membership, Step};

mod decide;
pub(crate) mod grpc;
pub(crate) mod store;

use decide::decide;

/// What somebody wants to change in a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Join,
    Leave {
        successor: Option<UserId>,
    },
    Add {
        user_ids: Vec<UserId>,
    },
    Remove {
        user_ids: Vec<UserId>,
        reason: String,
    },
    SetRole {
        user_id: UserId,
        role: Role,
        successor: Option<UserId>,
    },
    /// Adds and removes at once, in one life of the room.
    Edit {
        log_id: LogId,
        add: Vec<UserId>,
        remove: Vec<UserId>,
    },
}

impl Change {
    /// The users it names.
    pub(crate) fn names(&self) -> Vec<&UserId> {
        match self {
            Self::Join => Vec::new(),
            Self::Leave { successor } => successor.iter().collect(),
            Self::Add { user_ids } | Self::Remove { user_ids, .. } => user_ids.iter().collect(),
            Self::Edit { add, remove, .. } => add.iter().chain(remove).collect(),
            Self::SetRole { user_id, successor, .. } => {
                std::iter::once(user_id).chain(successor).collect()
            }
        }
    }
}

/// What a change comes to; without steps it has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) steps: Vec<Step>,
    pub(crate) outcome: Outcome,
}

/// What the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Joined { membership: Membership, already: bool },
    Left,
    Added { added: Vec<Membership>, already: Vec<UserId> },
    Removed { user_ids: Vec<UserId> },
    RoleSet { membership: Membership },
    Edited,
}
