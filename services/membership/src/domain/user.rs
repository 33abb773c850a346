//! The entries of a tenant's directory.

use std::collections::BTreeMap;

use parlance_types::{Micros, UserId};

const MAX_NAME_CHARS: usize = 256;
const MAX_PICTURE_BYTES: usize = 2048;
const MAX_PAIRS: usize = 32;
const MAX_KEY_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 1024;

/// What is written of a user: within its limits, free of U+0000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    name: String,
    picture: String,
    metadata: BTreeMap<String, String>,
}

/// A user as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub user_id: UserId,
    pub profile: Profile,
    pub created: Micros,
    pub updated: Micros,
}

/// Which field of a profile is wrong, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUser {
    pub field: &'static str,
    pub rule: &'static str,
}

impl Profile {
    /// Takes a profile from the wire.
    pub fn parse(
        name: String,
        picture: String,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self, InvalidUser> {
        let invalid = |field, rule| Err(InvalidUser { field, rule });
        if name.contains('\0') {
            return invalid("name", "must not contain U+0000");
        }
        if name.chars().count() > MAX_NAME_CHARS {
            return invalid("name", "must have at most 256 characters");
        }
        if picture.contains('\0') {
            return invalid("picture", "must not contain U+0000");
        }
        if picture.len() > MAX_PICTURE_BYTES {
            return invalid("picture", "must have at most 2048 bytes");
        }
        if metadata.len() > MAX_PAIRS {
            return invalid("metadata", "must have at most 32 pairs");
        }
        for (key, value) in &metadata {
            if !(1..=MAX_KEY_BYTES).contains(&key.len()) || value.len() > MAX_VALUE_BYTES {
                return invalid(
                    "metadata",
                    "must have keys of 1 to 64 bytes and values of at most 1024 bytes",
                );
            }
            if key.contains('\0') || value.contains('\0') {
                return invalid("metadata", "must not contain U+0000");
            }
        }
        Ok(Self { name, picture, metadata })
    }

    /// Takes a profile that was stored, so is known to be good.
    pub fn stored(name: String, picture: String, metadata: BTreeMap<String, String>) -> Self {
        Self { name, picture, metadata }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn picture(&self) -> &str {
        &self.picture
    }

    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, picture: &str, pairs: &[(&str, &str)]) -> Option<&'static str> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let profile = Profile::parse(name.to_owned(), picture.to_owned(), pairs.collect());
        profile.err().map(|invalid| invalid.field)
    }

    #[test]
    fn a_profile_keeps_within_its_limits() {
        assert_eq!(refused(&"é".repeat(256), &"x".repeat(2048), &[("k", "v")]), None);
        assert_eq!(refused(&"é".repeat(257), "", &[]), Some("name"));
        assert_eq!(refused("", &"x".repeat(2049), &[]), Some("picture"));
        assert_eq!(refused("a\0", "", &[]), Some("name"));
        assert_eq!(refused("", "a\0", &[]), Some("picture"));
        for pair in [("", "v"), (&*"k".repeat(65), "v"), ("k", &*"v".repeat(1025)), ("k", "\0")] {
            assert_eq!(refused("", "", &[pair]), Some("metadata"));
        }
        let many = (0..33).map(|n| (n.to_string(), String::new())).collect();
        let many = Profile::parse(String::new(), String::new(), many);
        assert_eq!(many.expect_err("too many").field, "metadata");
    }
}
