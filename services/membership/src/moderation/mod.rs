//! Moderation: who is kept out of a room, or silent there, and until when.

use parlance_types::{Micros, Role, RoomKind, UserId};

use crate::roster::{LockedRoster, Refused, Roster, State, Viewer, has_members_for};

mod codec;
pub(crate) mod grpc;
pub(crate) mod store;
pub(crate) mod suspension;

/// What a moderator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Ban { user_ids: Vec<UserId>, until: Micros, reason: String },
    Unban { user_ids: Vec<UserId> },
    Mute { user_ids: Vec<UserId>, until: Micros, reason: String },
    Unmute { user_ids: Vec<UserId> },
}

/// What was laid on a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Laid {
    pub(crate) user_id: String,
    pub(crate) until: Micros,
    pub(crate) reason: String,
    /// Empty: a service or an operator that acted for nobody.
    pub(crate) actor_id: String,
    pub(crate) created: Micros,
}

/// Whether a caller may moderate a room; with which role, unless they act for the tenant.
pub(crate) fn entitled(roster: &Roster, viewer: Viewer<'_>) -> Result<Option<Role>, Refused> {
    has_members_for(roster, viewer)?;
    if roster.kind == RoomKind::Direct {
        return Err(Refused::DirectRoom);
    }
    match viewer {
        Viewer::Tenant => Ok(None),
        Viewer::User(Some(row)) if row.state == State::Present => match row.role {
            Role::Member => Err(Refused::NotAllowed("only owners and admins moderate")),
            role => Ok(Some(role)),
        },
        Viewer::User(_) => Err(Refused::NotAMember),
    }
}

/// Whether the actor may moderate those of the users who are members, and which those are.
pub(crate) fn members_among(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
) -> Result<Vec<UserId>, Refused> {
    let own = entitled(&locked.roster, locked.viewer(actor))?;
    let mut found = Vec::new();
    for user_id in user_ids {
        if let Some(row) = locked.present(user_id) {
            if row.role > Role::Member && own.is_some_and(|own| own < Role::Owner) {
                return Err(Refused::NotAllowed("only owners moderate owners and admins"));
            }
            found.push(user_id.clone());
        }
    }
    Ok(found)
}

/// Which members a ban of these users takes from the room.
pub(crate) fn ban(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
) -> Result<Vec<UserId>, Refused> {
    let lost = members_among(locked, actor, user_ids)?;
    if let Some(stranger) = user_ids.iter().find(|user_id| !locked.known.contains(*user_id)) {
        return Err(Refused::no_user(stranger));
    }
    locked.spare_an_owner(&lost)?;
    Ok(lost)
}

/// Whether the actor may mute all of these users.
pub(crate) fn mute(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
) -> Result<(), Refused> {
    members_among(locked, actor, user_ids)?;
    match user_ids.iter().find(|user_id| locked.present(user_id).is_none()) {
        Some(stranger) => Err(Refused::no_member(stranger)),
        None => Ok(()),
    }
}
