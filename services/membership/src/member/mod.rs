//! What is said of a member in a room, while they are in.

pub(crate) mod grpc;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use parlance_types::{Role, RoomKind, UserId};

use crate::roster::{LockedRoster, Refused, has_members_for};

/// The most that is said of a member.
const MAX_KEYS: usize = 8;
const MAX_VALUE_BYTES: usize = 256;

/// A change of what is said of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Update {
    user_id: UserId,
    set: BTreeMap<String, String>,
    delete: BTreeSet<String>,
}

/// What a change comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Updated {
    metadata: BTreeMap<String, String>,
    /// The keys that have another value now.
    set: BTreeMap<String, String>,
    deleted: Vec<String>,
}

/// Whether `actor` may change what is said of a member; `None` acts for the tenant.
fn may_update(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    user_id: &UserId,
) -> Result<(), Refused> {
    has_members_for(&locked.roster, locked.viewer(actor))?;
    if let Some(actor) = actor {
        let own = locked.present(actor).ok_or(Refused::NotAMember)?;
        let moderates = own.role >= Role::Admin && locked.roster.kind != RoomKind::Direct;
        if actor != user_id && !moderates {
            return Err(Refused::NotAllowed("only owners and admins change what others say"));
        }
    }
    locked.present(user_id).map(|_| ()).ok_or_else(|| Refused::no_member(user_id))
}

impl Update {
    /// The metadata after the change. `None`: it would be too much.
    fn apply(&self, before: BTreeMap<String, String>) -> Option<Updated> {
        let mut updated = Updated { metadata: before, ..Updated::default() };
        for key in &self.delete {
            if updated.metadata.remove(key).is_some() {
                updated.deleted.push(key.clone());
            }
        }
        for (key, value) in &self.set {
            if updated.metadata.insert(key.clone(), value.clone()).as_ref() != Some(value) {
                updated.set.insert(key.clone(), value.clone());
            }
        }
        (updated.metadata.len() <= MAX_KEYS).then_some(updated)
    }
}

impl Updated {
    /// Whether nothing is other than before.
    fn is_nothing(&self) -> bool {
        self.set.is_empty() && self.deleted.is_empty()
    }
}
