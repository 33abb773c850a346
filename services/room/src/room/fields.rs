//! Fields of rooms: values under names that the operators of the tenant allow.
//!
//! A name is allowed from a version of the tenant's settings on, and a value is kept with the
//! version of its name. So a value that was put under a name which was taken off since is gone,
//! and stays so when the name comes back.

use std::collections::BTreeMap;

use parlance_rpc::fields;
use serde::{Deserialize, Serialize};

use crate::Error;

const MAX_VALUE_BYTES: usize = 256;

/// The names that are allowed, each since a version of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AllowedFields(pub(crate) BTreeMap<String, i64>);

/// The values that somebody wishes for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldsDraft(BTreeMap<String, String>);

/// The fields of a room: what is allowed, and the values of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    allowed: AllowedFields,
    values: BTreeMap<String, String>,
}

impl FieldsDraft {
    /// Takes values from the wire; `field` is what a refusal names.
    pub(crate) fn parse(field: &str, values: BTreeMap<String, String>) -> Result<Self, Error> {
        let values = fields::pairs(field, values)?.into_inner();
        if values.values().any(|value| value.len() > MAX_VALUE_BYTES) {
            return Err(Error::invalid(field, "must have values of at most 256 bytes"));
        }
        Ok(Self(values))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a room has all of these values.
    pub(crate) fn are_in(&self, fields: &Fields) -> bool {
        self.0.iter().all(|(name, value)| fields.values.get(name) == Some(value))
    }

    /// The names that a room with these fields may not have.
    pub(crate) fn ignored(&self, fields: &BTreeMap<String, String>) -> Vec<String> {
        self.0.keys().filter(|name| !fields.contains_key(*name)).cloned().collect()
    }

    /// The names that are not allowed.
    pub(crate) fn not_allowed(&self, fields: &Fields) -> Vec<String> {
        let allowed = |name: &&String| fields.allowed.0.contains_key(*name);
        self.0.keys().filter(|name| !allowed(name)).cloned().collect()
    }
}

impl Fields {
    /// What is allowed of the values.
    pub(crate) fn new(allowed: AllowedFields, draft: &FieldsDraft) -> Self {
        let mut fields = Self { allowed, values: BTreeMap::new() };
        fields.put(draft);
        fields
    }

    /// What is allowed of the values that were stored.
    pub(crate) fn stored(allowed: AllowedFields, stored: BTreeMap<String, (i64, String)>) -> Self {
        let present =
            stored.into_iter().filter(|(name, (since, _))| allowed.0.get(name) == Some(since));
        let values = present.map(|(name, (_, value))| (name, value)).collect();
        Self { allowed, values }
    }

    /// Takes over what is allowed of the values, in place of those there are; says whether
    /// they are others.
    pub(crate) fn put(&mut self, draft: &FieldsDraft) -> bool {
        let allowed = draft.0.iter().filter(|(name, _)| self.allowed.0.contains_key(*name));
        let values = allowed.map(|(name, value)| (name.clone(), value.clone())).collect();
        let differs = self.values != values;
        self.values = values;
        differs
    }

    pub(crate) const fn get(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// As they are stored.
    pub(crate) fn to_store(&self) -> BTreeMap<&str, (i64, &str)> {
        let since = |name: &String| self.allowed.0.get(name).copied().unwrap_or_default();
        let stored = self.values.iter();
        stored.map(|(name, value)| (name.as_str(), (since(name), value.as_str()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(names: &[(&str, i64)]) -> AllowedFields {
        AllowedFields(names.iter().map(|(name, since)| ((*name).to_owned(), *since)).collect())
    }

    fn draft(values: &[(&str, &str)]) -> FieldsDraft {
        let owned = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        FieldsDraft(owned.collect())
    }

    #[test]
    fn a_value_goes_with_its_name_and_does_not_come_back() {
        let fields = Fields::new(allowed(&[("a", 1), ("b", 1)]), &draft(&[("a", "1"), ("c", "3")]));
        assert_eq!(fields.get().keys().collect::<Vec<_>>(), ["a"]);
        let stored: BTreeMap<String, (i64, String)> = (fields.to_store().into_iter())
            .map(|(name, (since, value))| (name.to_owned(), (since, value.to_owned())))
            .collect();
        let read = |names| Fields::stored(allowed(names), stored.clone()).values;
        assert_eq!(read(&[("a", 1), ("c", 2)]).len(), 1);
        assert!(read(&[("b", 1)]).is_empty());
        assert!(read(&[("a", 3)]).is_empty(), "the name came back");
    }
}
