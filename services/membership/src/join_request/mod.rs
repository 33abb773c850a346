//! Requests to join: users who ask to be let into a room whose rule says so.

mod codec;
pub(crate) mod grpc;
mod store;

use std::collections::BTreeSet;

use parlance_types::{JoinRule, Micros, UserId};

use crate::roster::{
    Grant, LockedRoster, Membership, Refused, State, fit, in_groups_and_channels, may_add,
};

/// What somebody wants to change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Ask { text: String },
    Withdraw,
    Approve { user_ids: Vec<UserId> },
    Deny { user_ids: Vec<UserId> },
}

/// Who comes in by an approval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Approved {
    gained: Vec<Grant>,
    added: Vec<Membership>,
    already: Vec<UserId>,
}

/// Whether a user may ask; the membership of one who need not.
fn ask(locked: &LockedRoster, user_id: &UserId) -> Result<Option<Membership>, Refused> {
    let roster = &locked.roster;
    in_groups_and_channels(roster, locked.viewer(Some(user_id)))?;
    match locked.rows.get(user_id) {
        Some(row) if row.state == State::Present => {
            Ok(Some(Membership::of(&roster.room_id, user_id, row)))
        }
        _ if roster.rules.join != JoinRule::Request => Err(Refused::TakesNoRequests),
        Some(row) if row.state == State::Removed => Err(Refused::RemovedFromRoom),
        _ => Ok(None),
    }
}

/// Decides who of the users `actor` lets in; `open` are those who asked.
fn approve(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
    open: &BTreeSet<UserId>,
    now: Micros,
) -> Result<Approved, Refused> {
    may_add(&locked.roster, locked.viewer(actor))?;
    let mut approved = Approved::default();
    for user_id in user_ids {
        if locked.present(user_id).is_some() {
            approved.already.push(user_id.clone());
        } else if open.contains(user_id) {
            let others = approved.gained.len();
            let (grant, membership) = locked.roster.newcomer(user_id, others, now);
            approved.gained.push(grant);
            approved.added.push(membership);
        } else {
            return Err(Refused::no_request(user_id));
        }
    }
    fit(&locked.roster, approved.gained.len())?;
    approved.added.sort_by(|a, b| a.user_id.cmp(&b.user_id));
    Ok(approved)
}
