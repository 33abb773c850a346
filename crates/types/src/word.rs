//! Words of a content filter.

/// A word, or some words, of a content filter: what it may be, not what it matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterWord(String);

/// How many a tenant may have.
pub const MAX_FILTER_WORDS: usize = 2000;

/// A text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidFilterWord;

impl FilterWord {
    /// What a word must be, for people.
    pub const RULE: &str =
        "must have 1 to 64 bytes, no control characters, and no space at its ends";

    /// Takes a word from the wire.
    pub fn parse(word: impl Into<String>) -> Result<Self, InvalidFilterWord> {
        let word = word.into();
        let good = (1..=64).contains(&word.len())
            && !word.contains(char::is_control)
            && word.trim() == word;
        if good { Ok(Self(word)) } else { Err(InvalidFilterWord) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_short_and_of_one_line() {
        for good in ["a", "buy now", "казино", "c++", "\u{1f595}", &"x".repeat(64)] {
            assert_eq!(FilterWord::parse(good).map(FilterWord::into_string), Ok(good.to_owned()));
        }
        for bad in ["", " ", " a", "a ", "a\u{a0}", "a\nb", "a\0b", &"x".repeat(65)] {
            assert_eq!(FilterWord::parse(bad), Err(InvalidFilterWord), "{bad:?}");
        }
    }
}
