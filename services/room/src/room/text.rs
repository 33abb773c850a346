//! Texts of a room: within their limits, free of U+0000.

use crate::Error;

const MAX_NAME_CHARS: usize = 256;
const MAX_PICTURE_BYTES: usize = 2048;
const MAX_DESCRIPTION_CHARS: usize = 4000;
const MAX_UNIQUE_ID_BYTES: usize = 128;

/// Declares a text with a rule of its own.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $fits:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub(crate) struct $name(String);

        impl $name {
            /// Takes a text from the wire; `field` is what a refusal names.
            pub(crate) fn parse(field: &str, text: String) -> Result<Self, Error> {
                if text.contains('\0') {
                    return Err(Error::invalid(field, "must not contain U+0000"));
                }
                let fits: fn(&str) -> bool = $fits;
                if fits(&text) { Ok(Self(text)) } else { Err(Error::invalid(field, $rule)) }
            }

            /// Takes a text that was stored, so is known to be good.
            pub(crate) fn stored(text: String) -> Self {
                Self(text)
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

text!(
    /// What a room is called; may be empty.
    Name,
    |text| text.chars().count() <= MAX_NAME_CHARS,
    "must have at most 256 characters"
);
text!(
    /// The URL or storage id of a picture; may be empty.
    Picture,
    |text| text.len() <= MAX_PICTURE_BYTES,
    "must have at most 2048 bytes"
);
text!(
    /// What a room is about; may be empty.
    Description,
    |text| text.chars().count() <= MAX_DESCRIPTION_CHARS,
    "must have at most 4000 characters"
);
text!(
    /// The second name of a channel.
    UniqueId,
    |text| {
        (1..=MAX_UNIQUE_ID_BYTES).contains(&text.len())
            && !text.chars().any(|c| c.is_control() || c == '#' || c == '+')
    },
    "must have 1 to 128 bytes without control characters, # and +"
);

/// A name as it is compared with others.
pub(crate) fn folded(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_names_and_descriptions_count_code_points() {
        assert!(Name::parse("name", "é".repeat(256)).is_ok());
        assert!(Name::parse("name", "é".repeat(257)).is_err());
        assert!(Description::parse("description", "é".repeat(4000)).is_ok());
        assert!(Description::parse("description", "é".repeat(4001)).is_err());
        assert!(Picture::parse("picture", "x".repeat(2048)).is_ok());
        assert!(Picture::parse("picture", "x".repeat(2049)).is_err());
    }

    /// B-012.
    #[test]
    fn a_unique_id_has_no_number_sign_and_no_plus() {
        for good in ["a", "open source", "ü", &"x".repeat(128)] {
            assert!(UniqueId::parse("unique_id", good.to_owned()).is_ok(), "{good:?}");
        }
        for bad in ["", "a#b", "a+b", "a\nb", "a\0", &"x".repeat(129)] {
            assert!(UniqueId::parse("unique_id", bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
