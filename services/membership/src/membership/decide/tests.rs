//! Random walks of changes keep what a roster promises.

use std::collections::{BTreeMap, BTreeSet};

use parlance_types::{LogId, MemberRule, RoomId, TenantId};
use proptest::prelude::*;

use super::*;
use crate::roster::{Roster, Rules};

const USERS: usize = 5;
const CAPACITY: i32 = 4;

/// Who acts (`None`: a service) and what they want.
type Turn = (Option<usize>, Change);

fn user(number: usize) -> UserId {
    UserId::new(format!("user {number}"))
}

fn users() -> impl Strategy<Value = Vec<UserId>> {
    let some = proptest::collection::btree_set(0..USERS, 1..=3);
    some.prop_map(|numbers| numbers.into_iter().map(user).collect())
}

fn successor() -> impl Strategy<Value = Option<UserId>> {
    proptest::option::of((0..USERS).prop_map(user))
}

fn change() -> impl Strategy<Value = Change> {
    let role = prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)];
    prop_oneof![
        Just(Change::Join),
        successor().prop_map(|successor| Change::Leave { successor }),
        users().prop_map(|user_ids| Change::Add { user_ids }),
        users().prop_map(|user_ids| Change::Remove { user_ids, reason: String::new() }),
        ((0..USERS).prop_map(user), role, successor())
            .prop_map(|(user_id, role, successor)| Change::SetRole { user_id, role, successor }),
    ]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let actor = proptest::option::weighted(0.8, 0..USERS);
    proptest::collection::vec((actor, change()), 1..60)
}

fn rules() -> impl Strategy<Value = Rules> {
    let joins = [JoinRule::Anyone, JoinRule::AddedOnly, JoinRule::Request];
    let join = proptest::sample::select(joins.to_vec());
    let rule = || prop_oneof![Just(MemberRule::Members), Just(MemberRule::Admins)];
    (join, rule(), rule()).prop_map(|(join, add, remove)| Rules {
        join,
        add,
        remove,
        capacity: CAPACITY,
        watched: false,
    })
}

/// A group whose first user is its owner.
fn group(rules: Rules) -> LockedRoster {
    let roster = Roster {
        log_id: LogId(uuid::Uuid::nil()),
        tenant_id: TenantId::new("acme"),
        room_id: RoomId::new("den"),
        kind: RoomKind::Group,
        rules,
        member_count: 1,
        closed: false,
        live: None,
        invited: 0,
        asking: 0,
    };
    let owner = MemberRow { role: Role::Owner, state: State::Present, joined: 0 };
    let rows = BTreeMap::from([(user(0), owner)]);
    LockedRoster { roster, rows, known: (0..USERS).map(user).collect(), owners: 1 }
}

/// Takes a step as the store does.
fn take(locked: &mut LockedRoster, step: &Step, now: Micros) {
    match step {
        Step::Gained(grants) => {
            for grant in grants {
                assert!(locked.present(&grant.user_id).is_none(), "gained twice");
                let row = MemberRow { role: grant.role, state: State::Present, joined: now };
                locked.rows.insert(grant.user_id.clone(), row);
            }
        }
        Step::Lost { user_ids, cause, .. } => {
            for user_id in user_ids {
                let row = locked.rows.get_mut(user_id).expect("a member is lost");
                assert_eq!(row.state, State::Present, "lost twice");
                let removed = *cause == Cause::Removed;
                row.state = if removed { State::Removed } else { State::Left };
            }
        }
        Step::Roles(grants) => {
            for grant in grants {
                let row = locked.rows.get_mut(&grant.user_id).expect("a member's role");
                assert_eq!(row.state, State::Present, "a role without membership");
                row.role = grant.role;
            }
        }
    }
    let present = locked.rows.values().filter(|row| row.state == State::Present);
    let roles: Vec<_> = present.map(|row| row.role).collect();
    let count = |roles: usize| i64::try_from(roles).expect("few");
    locked.roster.member_count = count(roles.len());
    locked.owners = count(roles.iter().filter(|role| **role == Role::Owner).count());
}

proptest! {
    #[test]
    fn whatever_is_asked_a_roster_keeps_its_promises(rules in rules(), turns in turns()) {
        let mut locked = group(rules);
        for ((actor, change), now) in turns.iter().zip(1..) {
            let actor = actor.map(user);
            let Ok(decision) = decide(&locked, actor.as_ref(), change, now) else { continue };
            let before = locked.clone();
            for step in &decision.steps {
                take(&mut locked, step, now);
            }
            // A group has an owner as long as it has members.
            if locked.roster.member_count > 0 {
                prop_assert!(locked.owners > 0, "{change:?} by {actor:?}");
            }
            prop_assert!(locked.roster.member_count <= i64::from(CAPACITY));
            // Only a member, or who joins, changes anything.
            if let Some(actor) = &actor {
                let joins = *change == Change::Join;
                prop_assert!(joins || before.present(actor).is_some());
                let was_removed = before.rows.get(actor).map(|row| row.state);
                prop_assert!(!joins || was_removed != Some(State::Removed));
            }
            // Who does not give a role does not end it either.
            if let (Some(actor), Change::Remove { user_ids, .. }) = (&actor, change) {
                let owns = before.rows[actor].role == Role::Owner;
                let role = |target| before.rows[target].role;
                prop_assert!(user_ids.iter().all(|target| owns || role(target) == Role::Member));
            }
        }
    }

    #[test]
    fn a_refusal_for_a_direct_room_never_tells_strangers_that_it_is_there(
        rules in rules(),
        change in change(),
    ) {
        let mut locked = group(rules);
        locked.roster.kind = RoomKind::Direct;
        locked.known = BTreeSet::new();
        let refused = decide(&locked, Some(&user(USERS)), &change, 1);
        prop_assert_eq!(refused, Err(Refused::RoomNotFound));
    }
}
