//! Free key-value pairs, of users, rooms and messages.

use std::collections::BTreeMap;

const MAX_PAIRS: usize = 32;
const MAX_KEY_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 1024;

/// Up to 32 pairs: keys of 1 to 64 bytes, values of up to 1024 bytes, free of U+0000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(BTreeMap<String, String>);

/// Pairs that cannot be stored: what they must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPairs(pub &'static str);

impl Pairs {
    /// Takes pairs from the wire.
    pub fn parse(pairs: BTreeMap<String, String>) -> Result<Self, InvalidPairs> {
        if pairs.len() > MAX_PAIRS {
            return Err(InvalidPairs("must have at most 32 pairs"));
        }
        for (key, value) in &pairs {
            if !(1..=MAX_KEY_BYTES).contains(&key.len()) || value.len() > MAX_VALUE_BYTES {
                let rule = "must have keys of 1 to 64 bytes and values of at most 1024 bytes";
                return Err(InvalidPairs(rule));
            }
            if key.contains('\0') || value.contains('\0') {
                return Err(InvalidPairs("must not contain U+0000"));
            }
        }
        Ok(Self(pairs))
    }

    /// Takes pairs that were stored, so are known to be good.
    pub const fn stored(pairs: BTreeMap<String, String>) -> Self {
        Self(pairs)
    }

    pub const fn get(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    pub fn into_inner(self) -> BTreeMap<String, String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_few_and_small() {
        let pair = |key: &str, value: &str| {
            Pairs::parse(BTreeMap::from([(key.to_owned(), value.to_owned())]))
        };
        assert!(pair(&"k".repeat(64), &"v".repeat(1024)).is_ok());
        for (key, value) in
            [("", "v"), ("k\0", ""), ("k", "\0"), (&"k".repeat(65), ""), ("k", &"v".repeat(1025))]
        {
            assert!(pair(key, value).is_err(), "{key:?} {value:?}");
        }
        let many = |count: u8| (0..count).map(|n| (n.to_string(), String::new())).collect();
        assert!(Pairs::parse(many(32)).is_ok());
        assert!(Pairs::parse(many(33)).is_err());
    }
}
