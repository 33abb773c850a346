//! Lists of users whom their owner denies or allows, of which one may be the default.

use parlance_types::UserId;

pub(crate) mod grpc;
pub(crate) mod store;

/// How many lists a user may have.
pub(crate) const MAX_LISTS: usize = 10;

/// How many users a list may name.
pub(crate) const MAX_ITEMS: usize = 1000;

/// The name of a list: 1 to 64 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListName(String);

/// What a list says of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) user_id: UserId,
    /// Whether they are blocked.
    pub(crate) denied: bool,
    /// Whether the owner is refused in the direct room of the two as well.
    pub(crate) mutual: bool,
}

/// A list as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrivacyList {
    pub(crate) items: Vec<Item>,
    pub(crate) is_default: bool,
}

impl ListName {
    pub(crate) fn parse(name: String) -> Option<Self> {
        let good = (1..=64).contains(&name.len()) && !name.contains(char::is_control);
        good.then_some(Self(name))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
