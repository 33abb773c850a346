//! Users: the entries of a tenant's directory.

use std::collections::BTreeMap;

use parlance_types::{InvalidPairs, Micros, Pairs, UserId};

pub(crate) mod grpc;
pub(crate) mod store;

const MAX_NAME_CHARS: usize = 256;
const MAX_PICTURE_BYTES: usize = 2048;

/// What is written of a user: within its limits, free of U+0000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    name: String,
    picture: String,
    metadata: Pairs,
}

/// What to look for in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Of the name, folded.
    Name(String),
    Id(String),
}

/// A name as it is looked for.
pub(crate) fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// A user as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) profile: Profile,
    pub(crate) created: Micros,
    pub(crate) updated: Micros,
    /// Until when they are kept out of everything; it may be over.
    pub(crate) suspended_until: Micros,
}

/// Which field of a profile is wrong, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidUser {
    pub(crate) field: &'static str,
    pub(crate) rule: &'static str,
}

impl Profile {
    /// Takes a profile from the wire.
    pub(crate) fn parse(
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
        let metadata = Pairs::parse(metadata)
            .map_err(|InvalidPairs(rule)| InvalidUser { field: "metadata", rule })?;
        Ok(Self { name, picture, metadata })
    }

    /// How the names begin that are looked for.
    pub(crate) fn name_prefix(prefix: &str) -> Result<Prefix, InvalidUser> {
        let invalid = |rule| Err(InvalidUser { field: "name_prefix", rule });
        if prefix.contains('\0') {
            return invalid("must not contain U+0000");
        }
        if !(1..=MAX_NAME_CHARS).contains(&prefix.chars().count()) {
            return invalid("must have 1 to 256 characters");
        }
        Ok(Prefix::Name(folded(prefix)))
    }

    /// Takes a profile that was stored, so is known to be good.
    pub(crate) fn stored(name: String, picture: String, metadata: Pairs) -> Self {
        Self { name, picture, metadata }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn picture(&self) -> &str {
        &self.picture
    }

    pub(crate) const fn metadata(&self) -> &BTreeMap<String, String> {
        self.metadata.get()
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
        assert_eq!(refused("", "", &[("", "v")]), Some("metadata"));
    }
}
