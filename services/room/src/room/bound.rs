//! Keys of a room's metadata that end with a membership.

use std::collections::BTreeMap;

use parlance_types::{Micros, UserId};
use serde::{Deserialize, Serialize};

use super::KeyOwners;

/// A membership: whose, and since when. Who comes back has another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    user_id: String,
    /// 0: not known.
    joined: Micros,
}

/// The memberships with which keys end, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BoundKeys(BTreeMap<String, Member>);

impl Member {
    pub(crate) fn new(user_id: &UserId, joined: Micros) -> Self {
        Self { user_id: user_id.to_string(), joined }
    }

    fn user(&self) -> UserId {
        UserId::new(self.user_id.as_str())
    }

    /// Whether it is over, by those who are members, and since when.
    fn is_over(&self, present: &BTreeMap<UserId, Micros>) -> bool {
        match present.get(&self.user()) {
            Some(joined) => self.joined != 0 && *joined != self.joined,
            None => true,
        }
    }
}

impl BoundKeys {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes with which membership a key ends; `None`: with none.
    pub(crate) fn set(&mut self, key: &str, member: Option<Member>) {
        match member {
            Some(member) => self.0.insert(key.to_owned(), member),
            None => self.0.remove(key),
        };
    }

    /// The membership with which a key ends.
    pub(crate) fn get(&self, key: &str) -> Option<&Member> {
        self.0.get(key)
    }

    /// Forgets keys that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|key, _| keep(key));
    }

    /// Whose memberships they are, each user once.
    pub(crate) fn users(&self) -> Vec<UserId> {
        let mut users: Vec<_> = self.0.values().map(|member| member.user_id.as_str()).collect();
        users.sort_unstable();
        users.dedup();
        users.into_iter().map(UserId::new).collect()
    }

    /// Those whose memberships are over, by who is a member, and since when.
    pub(crate) fn over(&self, present: &BTreeMap<UserId, Micros>) -> Self {
        let over = self.0.iter().filter(|(_, member)| member.is_over(present));
        Self(over.map(|(key, member)| (key.clone(), member.clone())).collect())
    }

    /// Takes away those that end with the same memberships still; a key that another user
    /// owns by now does not.
    pub(crate) fn end(&mut self, over: &Self, owners: &KeyOwners) -> Vec<String> {
        let ends = |(key, member): &(&String, &Member)| {
            self.0.get(*key) == Some(*member) && owners.are(key, Some(&member.user()))
        };
        let ended: Vec<String> = over.0.iter().filter(ends).map(|(key, _)| key.clone()).collect();
        self.0.retain(|key, _| !ended.contains(key));
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_over_with_the_membership_in_which_it_was_set() {
        let (ann, bob) = (UserId::new("ann"), UserId::new("bob"));
        let mut owners = KeyOwners::default();
        let mut bound = BoundKeys::default();
        for (key, owner) in [("a", &ann), ("b", &bob), ("taken", &ann), ("unknown", &ann)] {
            owners.set(key, Some(owner));
            let joined = if key == "unknown" { 0 } else { 5 };
            bound.set(key, Some(Member::new(owner, joined)));
        }
        owners.set("taken", Some(&bob));
        let over = |present: &[(&UserId, Micros)]| {
            let present = present.iter().map(|(user, joined)| ((*user).clone(), *joined));
            bound.clone().end(&bound.over(&present.collect()), &owners)
        };
        assert!(over(&[(&ann, 5), (&bob, 5)]).is_empty());
        assert_eq!(over(&[(&bob, 5)]), ["a", "unknown"]);
        assert_eq!(over(&[(&ann, 6), (&bob, 5)]), ["a"], "she came back");
        // Set anew meanwhile.
        let (over, mut now) = (bound.over(&BTreeMap::new()), bound.clone());
        now.set("a", Some(Member::new(&ann, 7)));
        assert_eq!(now.end(&over, &owners), ["b", "unknown"]);
        assert!(now.get("a").is_some() && now.get("b").is_none());
        assert_eq!(bound.users(), [ann, bob]);
    }
}
