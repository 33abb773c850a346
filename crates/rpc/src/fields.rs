//! Fields of requests, made into values that cannot be wrong. A refusal names the field,
//! and says the same of the same fault in every service.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::time::Duration;

use parlance_types::{
    AttachmentId, InvalidId, InvalidPageToken, InvalidPairs, LogId, MessageId, Micros, PageSize,
    Pairs, RequestId, RoomId, UserId,
};
use tonic::Status;

use crate::{Caller, Failure, Reason, Refusal, status};

/// What a field must be and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct Violation {
    pub field: String,
    pub rule: String,
}

impl Violation {
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }
}

impl Failure for Violation {
    fn reason(&self) -> Reason {
        Reason::InvalidField
    }

    fn detail(&self, refusal: Refusal) -> Refusal {
        refusal.in_field(&self.field, &self.rule)
    }
}

impl From<Violation> for Status {
    fn from(violation: Violation) -> Self {
        status(&violation)
    }
}

/// An id, as its type parses it.
pub fn id<T>(field: impl Into<String>, parsed: Result<T, InvalidId>) -> Result<T, Violation> {
    parsed.map_err(|invalid| Violation::new(field, invalid.to_string()))
}

pub fn room_id(field: impl Into<String>, text: String) -> Result<RoomId, Violation> {
    id(field, RoomId::parse(text))
}

pub fn user_id(field: impl Into<String>, text: String) -> Result<UserId, Violation> {
    id(field, UserId::parse(text))
}

pub fn message_id(field: &str, text: &str) -> Result<MessageId, Violation> {
    text.parse().map_err(|InvalidId| Violation::new(field, "must be a message id"))
}

pub fn attachment_id(field: impl Into<String>, text: &str) -> Result<AttachmentId, Violation> {
    text.parse().map_err(|InvalidId| Violation::new(field, "must be an attachment id"))
}

pub fn log_id(field: impl Into<String>, text: &str) -> Result<LogId, Violation> {
    text.parse().map_err(|InvalidId| Violation::new(field, "must be a UUID"))
}

/// A text that may be left out.
pub fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The name of an attempt among those of its caller, if it has one.
pub fn request_id(caller: &Caller, text: String) -> Result<Option<RequestId>, Violation> {
    let request_id = given(text).map(|text| id("request_id", RequestId::parse(text)));
    Ok(request_id.transpose()?.map(|request_id| caller.own(request_id)))
}

/// A number that must not be too small, such as a position.
pub fn at_least(field: &str, number: i64, least: i64) -> Result<i64, Violation> {
    if number >= least {
        return Ok(number);
    }
    Err(Violation::new(field, format!("must be at least {least}")))
}

/// The number of entries of a list.
pub fn length(field: &str, length: usize, allowed: RangeInclusive<usize>) -> Result<(), Violation> {
    if allowed.contains(&length) {
        return Ok(());
    }
    let (least, most) = allowed.into_inner();
    Err(Violation::new(
        field,
        match least {
            0 => format!("must have at most {most} entries"),
            _ => format!("must have {least} to {most} entries"),
        },
    ))
}

/// Every entry of a list of so many, parsed; a refusal names the entry. The list is as long
/// as the caller likes: no entry is looked at before their number is.
pub fn each<T, E: From<Violation>>(
    field: &str,
    entries: Vec<String>,
    allowed: RangeInclusive<usize>,
    parse: impl Fn(String, String) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    length(field, entries.len(), allowed)?;
    let entries = entries.into_iter().enumerate();
    entries.map(|(at, entry)| parse(format!("{field}[{at}]"), entry)).collect()
}

/// Refuses the second of two entries with one key; `name` is the field of an entry.
pub fn once<K: Eq + Hash>(
    mut keys: impl Iterator<Item = K>,
    name: impl Fn(usize) -> String,
) -> Result<(), Violation> {
    let mut seen = HashSet::new();
    match keys.position(|key| !seen.insert(key)) {
        Some(at) => Err(Violation::new(name(at), "must be named once")),
        None => Ok(()),
    }
}

/// A list of ids, so many, each once.
pub fn ids<T: Eq + Hash>(
    field: &str,
    entries: Vec<String>,
    allowed: RangeInclusive<usize>,
    parse: impl Fn(String) -> Result<T, InvalidId>,
) -> Result<Vec<T>, Violation> {
    let parsed = each(field, entries, allowed, |entry, text| id(entry, parse(text)))?;
    once(parsed.iter(), |at| format!("{field}[{at}]"))?;
    Ok(parsed)
}

/// The number of entries of a page.
pub fn page_size(size: i32) -> Result<PageSize, Violation> {
    PageSize::parse(size).ok_or_else(|| Violation::new("page_size", "must not be negative"))
}

/// The position that a page token stands for.
pub fn page_token<T>(position: Result<T, InvalidPageToken>) -> Result<T, Violation> {
    position.map_err(|invalid| Violation::new("page_token", invalid.to_string()))
}

/// Free key-value pairs.
pub fn pairs(field: &str, pairs: BTreeMap<String, String>) -> Result<Pairs, Violation> {
    Pairs::parse(pairs).map_err(|InvalidPairs(rule)| Violation::new(field, rule))
}

/// A point in time; `None` if it is none.
pub fn micros(time: &prost_types::Timestamp) -> Option<Micros> {
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    time.seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1000))
}

/// A span of time, if one was given.
pub fn duration(
    field: &str,
    span: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Violation> {
    let parsed = span.map(Duration::try_from).transpose();
    parsed.map_err(|_| Violation::new(field, "must not be negative"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::acme;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn users(list: &[&str]) -> Result<Vec<UserId>, (String, String)> {
        let parsed = ids("user_ids", texts(list), 1..=3, UserId::parse);
        parsed.map_err(|Violation { field, rule }| (field, rule))
    }

    #[test]
    fn a_refusal_of_a_list_names_the_entry() {
        assert_eq!(users(&["ann", "bob"]).expect("good").len(), 2);
        let refused = |list, field: &str, rule: &str| {
            assert_eq!(users(list), Err((field.to_owned(), rule.to_owned())));
        };
        refused(&[], "user_ids", "must have 1 to 3 entries");
        refused(&["a", "b", "c", "d"], "user_ids", "must have 1 to 3 entries");
        refused(&["ann", "bob", "ann"], "user_ids[2]", "must be named once");
        refused(
            &["ann", "a\0"],
            "user_ids[1]",
            "must have 1 to 128 bytes and no control characters",
        );
    }

    #[test]
    fn what_may_be_left_out_is_none() {
        let ann = acme("ann");
        assert_eq!(request_id(&ann, String::new()), Ok(None));
        assert!(request_id(&ann, "x".repeat(129)).is_err());
        assert_eq!(duration("lease", None), Ok(None));
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert!(duration("lease", Some(negative)).is_err());
    }
}
