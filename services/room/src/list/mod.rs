//! A user's rooms. The message service orders and counts them, this one adds what they
//! are called.

mod grpc;

pub(crate) use grpc::RoomListGrpc;

use crate::Error;
use crate::room::{Fields, FieldsDraft, Name, folded};

/// The most code points of a part of a name.
const MAX_PART_CHARS: usize = 256;

/// Which rooms are listed, by what this service knows of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Narrow {
    /// In lower case.
    part: String,
    fields: FieldsDraft,
}

impl Narrow {
    fn parse(part: &str, fields: FieldsDraft) -> Result<Self, Error> {
        if part.contains('\0') {
            return Err(Error::invalid("name_contains", "must not contain U+0000"));
        }
        if part.chars().count() > MAX_PART_CHARS {
            return Err(Error::invalid("name_contains", "must have at most 256 characters"));
        }
        Ok(Self { part: folded(part), fields })
    }

    /// Whether it leaves out nothing.
    fn is_nothing(&self) -> bool {
        self.part.is_empty() && self.fields.is_empty()
    }

    fn lets_pass(&self, name: &Name, fields: &Fields) -> bool {
        folded(name.as_str()).contains(&self.part) && self.fields.are_in(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_is_found_whatever_its_case() {
        let narrow = |part: &str| Narrow::parse(part, FieldsDraft::default()).expect("good");
        let name = Name::stored("Straße nach Köln".to_owned());
        for (part, passes) in [("", true), ("KÖLN", true), ("ße n", true), ("bonn", false)] {
            assert_eq!(narrow(part).lets_pass(&name, &Fields::default()), passes, "{part}");
        }
        assert!(Narrow::parse("a\0", FieldsDraft::default()).is_err());
        assert!(Narrow::parse(&"é".repeat(257), FieldsDraft::default()).is_err());
        assert!(narrow("").is_nothing() && !narrow("a").is_nothing());
    }
}
