//! Who set each key of a room's metadata last.

use std::collections::BTreeMap;

use parlance_types::{Pairs, UserId};
use serde::{Deserialize, Serialize};

/// The owners of the keys that have one, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeyOwners(BTreeMap<String, String>);

impl KeyOwners {
    /// One owner of all keys.
    pub(crate) fn of(metadata: &Pairs, owner: Option<&UserId>) -> Self {
        let mut owners = Self::default();
        owners.take_over(&Pairs::default(), metadata, owner);
        owners
    }

    /// Whether nobody but `user` set a key last; `None` is who acts for nobody.
    pub(crate) fn are(&self, key: &str, user: Option<&UserId>) -> bool {
        self.0.get(key).map(String::as_str) == user.map(UserId::as_str)
    }

    /// Whether a key is nobody's.
    pub(crate) fn lack(&self, key: &str) -> bool {
        !self.0.contains_key(key)
    }

    /// Notes who set a key.
    pub(crate) fn set(&mut self, key: &str, owner: Option<&UserId>) {
        match owner {
            Some(owner) => self.0.insert(key.to_owned(), owner.to_string()),
            None => self.0.remove(key),
        };
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Metadata is put in place of another: what has another value now is of who put it.
    pub(crate) fn take_over(&mut self, before: &Pairs, after: &Pairs, owner: Option<&UserId>) {
        let (before, after) = (before.get(), after.get());
        self.0.retain(|key, _| after.contains_key(key));
        for (key, _) in after.iter().filter(|(key, value)| before.get(*key) != Some(*value)) {
            self.set(key, owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Pairs::stored(owned.collect())
    }

    #[test]
    fn a_key_is_of_who_changed_its_value_last() {
        let (ann, bob) = (UserId::new("ann"), UserId::new("bob"));
        let first = pairs(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
        let mut owners = KeyOwners::of(&first, Some(&ann));
        owners.set("d", None);
        owners.take_over(&first, &pairs(&[("a", "1"), ("b", "2"), ("d", "1")]), Some(&bob));
        assert!(owners.are("a", Some(&ann)) && owners.are("b", Some(&bob)));
        assert!(owners.lack("c") && owners.are("d", None) && !owners.are("d", Some(&ann)));
    }
}
