//! The rule of patches.

use parlance_types::{TenantId, UserId};

use super::*;

fn actor(user: Option<&str>) -> Actor {
    Actor { tenant_id: TenantId::new("acme"), user: user.map(UserId::new) }
}

fn draft(keys: &[(&str, &str, Option<&str>)]) -> Draft {
    let pairs = keys.iter().map(|(key, value, _)| ((*key).to_owned(), (*value).to_owned()));
    let mut draft =
        Draft { pairs: pairs.collect(), owners: KeyOwners::default(), bound: BoundKeys::default() };
    for (key, _, owner) in keys {
        draft.owners.set(key, owner.map(UserId::new).as_ref());
    }
    draft
}

fn set(key: &str, condition: Condition) -> KeyPatch {
    KeyPatch { key: key.to_owned(), value: Some("new".to_owned()), condition, bound: false }
}

fn of_condition(mine: bool, absent: bool, value: Option<&str>) -> Condition {
    Condition { mine, absent, value: value.map(ToOwned::to_owned) }
}

#[test]
fn a_member_changes_their_own_keys_and_nobodys_and_an_admin_all() {
    let draft =
        draft(&[("ann's", "1", Some("ann")), ("bob's", "1", Some("bob")), ("no", "1", None)]);
    let bob = actor(Some("bob"));
    for (any_key, key, refusal) in [
        (false, "ann's", Some(KeyRefusal::NotMine)),
        (false, "bob's", None),
        (false, "no", None),
        (false, "absent", None),
        (true, "ann's", None),
    ] {
        let by = Patcher { actor: &bob, joined: 1, any_key };
        assert_eq!(set(key, Condition::default()).refusal(by, &draft), refusal, "{key}");
    }
}

#[test]
fn all_conditions_must_hold() {
    let draft = draft(&[("ann's", "1", Some("ann")), ("no", "1", None)]);
    let (ann, nobody) = (actor(Some("ann")), actor(None));
    let [ann, nobody] = [&ann, &nobody].map(|actor| Patcher { actor, joined: 1, any_key: true });
    for (by, key, condition, refusal) in [
        (ann, "ann's", of_condition(true, false, Some("1")), None),
        (ann, "ann's", of_condition(true, false, Some("2")), Some(KeyRefusal::OtherValue)),
        (ann, "no", of_condition(true, false, None), Some(KeyRefusal::NotMine)),
        (ann, "absent", of_condition(true, true, None), None),
        (ann, "absent", of_condition(false, false, Some("")), Some(KeyRefusal::OtherValue)),
        (ann, "ann's", of_condition(false, true, None), Some(KeyRefusal::Present)),
        // Who acts for nobody has what nobody has.
        (nobody, "no", of_condition(true, false, None), None),
        (nobody, "ann's", of_condition(true, false, None), Some(KeyRefusal::NotMine)),
    ] {
        assert_eq!(set(key, condition).refusal(by, &draft), refusal, "{key}");
    }
}

#[test]
fn what_is_larger_than_may_be_shrinks_only() {
    let of = |count: usize, bytes: usize| -> BTreeMap<String, String> {
        (0..count).map(|n| (format!("{n:0>4}"), "x".repeat(bytes - 4))).collect()
    };
    assert!(fits(&of(1, 4), &of(32, 256)));
    assert!(!fits(&of(1, 4), &of(33, 8)));
    assert!(!fits(&of(32, 256), &of(32, 257)));
    assert!(fits(&of(32, 1024), &of(32, 1023)) && !fits(&of(32, 1023), &of(32, 1024)));
}
