//! Invitations: users who are asked into a room, and come in when they accept.

mod codec;
pub(crate) mod grpc;
mod store;

use std::collections::BTreeSet;

use parlance_types::{Micros, UserId};

use crate::roster::{
    Grant, LockedRoster, Membership, Refused, fit, in_groups_and_channels, may_add,
};

/// What somebody wants to change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Invite { user_ids: Vec<UserId>, text: String },
    Revoke { user_ids: Vec<UserId> },
    Accept,
    Decline,
}

/// How users stand who were to be invited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Invited {
    new: Vec<UserId>,
    already: Vec<UserId>,
    members: Vec<UserId>,
}

/// Decides which of the users `actor` invites; `open` are those who are invited.
fn invite(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
    open: &BTreeSet<UserId>,
) -> Result<Invited, Refused> {
    may_add(&locked.roster, locked.viewer(actor))?;
    let mut invited = Invited::default();
    for user_id in user_ids {
        let list = if locked.present(user_id).is_some() {
            &mut invited.members
        } else if open.contains(user_id) {
            &mut invited.already
        } else if locked.known.contains(user_id) {
            &mut invited.new
        } else {
            return Err(Refused::no_user(user_id));
        };
        list.push(user_id.clone());
    }
    Ok(invited)
}

/// Decides what accepting makes of a user: a new membership, or the one that they have.
fn accept(
    locked: &LockedRoster,
    user_id: &UserId,
    is_invited: bool,
    now: Micros,
) -> Result<(Option<Grant>, Membership), Refused> {
    let roster = &locked.roster;
    in_groups_and_channels(roster, locked.viewer(Some(user_id)))?;
    if let Some(row) = locked.present(user_id) {
        return Ok((None, Membership::of(&roster.room_id, user_id, row)));
    }
    if !is_invited {
        return Err(Refused::InvitationNotFound);
    }
    fit(roster, 1)?;
    let (grant, membership) = roster.newcomer(user_id, 0, now);
    Ok((Some(grant), membership))
}
