//! The rules: who may change a roster, and what a change comes to.

use parlance_types::{JoinRule, Micros, Role, RoomKind, UserId};

use super::{Change, Decision, Outcome};
use crate::roster::{
    Cause, Grant, LockedRoster, MemberRow, Membership, Refused, State, Step, fit, has_members_for,
    may_add,
};

/// Decides a change that `actor` wants; `None` is a service that acts for the tenant.
pub(crate) fn decide(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    change: &Change,
    now: Micros,
) -> Result<Decision, Refused> {
    has_members_for(&locked.roster, locked.viewer(actor))?;
    if locked.roster.kind == RoomKind::Direct && !matches!(change, Change::Leave { .. }) {
        return Err(Refused::DirectRoom);
    }
    let adds = match change {
        Change::Join | Change::Add { .. } => true,
        Change::Edit { add, .. } => !add.is_empty(),
        _ => false,
    };
    if locked.roster.kind == RoomKind::Live && adds {
        return Err(Refused::LiveRoom);
    }
    match (change, actor) {
        (Change::Join, Some(actor)) => join(locked, actor, now),
        (Change::Leave { successor }, Some(actor)) => leave(locked, actor, successor.as_ref()),
        (Change::Join | Change::Leave { .. }, None) => Err(Refused::NotAMember),
        (Change::Add { user_ids }, _) => add(locked, actor, user_ids, now),
        (Change::Remove { user_ids, reason }, _) => remove(locked, actor, user_ids, reason),
        (Change::Edit { log_id, .. }, _) if *log_id != locked.roster.log_id => {
            Err(Refused::RoomNotFound)
        }
        (Change::Edit { add, remove, .. }, _) => edit(locked, actor, add, remove, now),
        (Change::SetRole { user_id, role, successor }, _) => {
            let grant = Grant { user_id: user_id.clone(), role: *role };
            set_role(locked, actor, &grant, successor.as_ref())
        }
    }
}

fn join(locked: &LockedRoster, actor: &UserId, now: Micros) -> Result<Decision, Refused> {
    let roster = &locked.roster;
    let already = |row: &MemberRow| {
        let membership = Membership::of(&roster.room_id, actor, row);
        Ok(Decision { steps: Vec::new(), outcome: Outcome::Joined { membership, already: true } })
    };
    match locked.rows.get(actor) {
        Some(row) if row.state == State::Present => return already(row),
        Some(row) if row.state == State::Removed => return Err(Refused::RemovedFromRoom),
        _ if roster.rules.join != JoinRule::Anyone => return Err(Refused::JoinRestricted),
        _ => fit(roster, 1)?,
    }
    let (grant, membership) = roster.newcomer(actor, 0, now);
    Ok(Decision {
        steps: vec![Step::Gained(vec![grant])],
        outcome: Outcome::Joined { membership, already: false },
    })
}

fn leave(
    locked: &LockedRoster,
    actor: &UserId,
    successor: Option<&UserId>,
) -> Result<Decision, Refused> {
    let row = locked.present(actor).ok_or_else(|| Refused::no_member(actor))?;
    let mut steps = Vec::new();
    let ends_ownership =
        row.role == Role::Owner && locked.owners == 1 && locked.roster.member_count > 1;
    if ends_ownership && locked.roster.keeps_an_owner() {
        steps.push(Step::Roles(vec![succeed(locked, actor, successor)?]));
    }
    let user_ids = vec![actor.clone()];
    steps.push(Step::Lost { user_ids, cause: Cause::Left, reason: String::new() });
    Ok(Decision { steps, outcome: Outcome::Left })
}

fn add(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
    now: Micros,
) -> Result<Decision, Refused> {
    let roster = &locked.roster;
    may_add(roster, locked.viewer(actor))?;
    let (mut added, mut already, mut gained) = (Vec::new(), Vec::new(), Vec::new());
    for user_id in user_ids {
        if locked.present(user_id).is_some() {
            already.push(user_id.clone());
            continue;
        }
        if !locked.known.contains(user_id) {
            return Err(Refused::no_user(user_id));
        }
        let (grant, membership) = roster.newcomer(user_id, gained.len(), now);
        gained.push(grant);
        added.push(membership);
    }
    fit(roster, gained.len())?;
    added.sort_by(|a, b| a.user_id.cmp(&b.user_id));
    let steps = if gained.is_empty() { Vec::new() } else { vec![Step::Gained(gained)] };
    Ok(Decision { steps, outcome: Outcome::Added { added, already } })
}

fn remove(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
    reason: &str,
) -> Result<Decision, Refused> {
    let own = may_remove(locked, actor)?;
    for user_id in user_ids {
        let row = locked.present(user_id).ok_or_else(|| Refused::no_member(user_id))?;
        if row.role > Role::Member && own.is_some_and(|own| own < Role::Owner) {
            return Err(Refused::NotAllowed("only owners remove owners and admins"));
        }
    }
    locked.spare_an_owner(user_ids)?;
    let user_ids = user_ids.to_vec();
    let reason = reason.to_owned();
    Ok(Decision {
        steps: vec![Step::Lost { user_ids: user_ids.clone(), cause: Cause::Removed, reason }],
        outcome: Outcome::Removed { user_ids },
    })
}

/// Removes, then adds. Who was removed before stays away: it may be a repeat.
fn edit(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    added: &[UserId],
    removed: &[UserId],
    now: Micros,
) -> Result<Decision, Refused> {
    let (mut after, mut steps) = (locked.clone(), Vec::new());
    if !removed.is_empty() {
        let away = |user_id: &&UserId| {
            locked.rows.get(*user_id).is_some_and(|row| row.state == State::Removed)
        };
        let left: Vec<_> = removed.iter().filter(|user_id| !away(user_id)).cloned().collect();
        let decision = remove(locked, actor, &left, "")?;
        if !left.is_empty() {
            after.roster.member_count -= i64::try_from(left.len()).unwrap_or(i64::MAX);
            steps = decision.steps;
        }
    }
    if !added.is_empty() {
        steps.extend(add(&after, actor, added, now)?.steps);
    }
    Ok(Decision { steps, outcome: Outcome::Edited })
}

fn set_role(
    locked: &LockedRoster,
    actor: Option<&UserId>,
    grant: &Grant,
    successor: Option<&UserId>,
) -> Result<Decision, Refused> {
    if let Some(actor) = actor {
        let row = locked.present(actor).ok_or(Refused::NotAMember)?;
        if row.role != Role::Owner {
            return Err(Refused::NotAllowed("only owners change roles"));
        }
    }
    let row = locked.present(&grant.user_id).ok_or_else(|| Refused::no_member(&grant.user_id))?;
    let mut grants = Vec::new();
    if row.role != grant.role {
        grants.push(grant.clone());
        if row.role == Role::Owner && locked.owners == 1 {
            grants.push(succeed(locked, &grant.user_id, successor)?);
        }
    }
    let row = MemberRow { role: grant.role, ..*row };
    let membership = Membership::of(&locked.roster.room_id, &grant.user_id, &row);
    let steps = if grants.is_empty() { Vec::new() } else { vec![Step::Roles(grants)] };
    Ok(Decision { steps, outcome: Outcome::RoleSet { membership } })
}

/// Makes the successor of the last owner an owner.
fn succeed(
    locked: &LockedRoster,
    last: &UserId,
    successor: Option<&UserId>,
) -> Result<Grant, Refused> {
    let successor = successor.filter(|user_id| *user_id != last).ok_or(Refused::LastOwner)?;
    locked.present(successor).ok_or_else(|| Refused::no_member(successor))?;
    Ok(Grant { user_id: successor.clone(), role: Role::Owner })
}

/// The actor's role, if the room's remove rule lets it; `None` for who acts for the tenant.
fn may_remove(locked: &LockedRoster, actor: Option<&UserId>) -> Result<Option<Role>, Refused> {
    let Some(actor) = actor else { return Ok(None) };
    let own = locked.present(actor).ok_or(Refused::NotAMember)?.role;
    if locked.roster.rules.remove.allows(own) {
        return Ok(Some(own));
    }
    Err(Refused::NotAllowed("the room's rules do not let the caller remove members"))
}

#[cfg(test)]
mod tests;
