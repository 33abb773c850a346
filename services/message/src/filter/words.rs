//! Finds words in texts, whole and in whatever case they are written.

use std::ops::RangeInclusive;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use parlance_types::FilterWord;
use unicode_segmentation::UnicodeSegmentation as _;

const CASES: CaseMapperBorrowed<'static> = CaseMapper::new();
const FORMS: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfkc();

/// Both ends of a piece of a text. No text has it.
const EDGE: char = '\0';

/// What takes the place of each character of a word.
const MASK: char = '*';

/// A list of words, ready to be looked for.
///
/// Texts and words are cut into pieces by the rules of Unicode (UAX 29), which cut between
/// words and also between most signs of scripts that write none, and each piece is folded. So
/// a word is found where its pieces stand in a text, next to each other:
///
/// ```text
/// text       Buy    ' '   now      !         folded   0buy0 0 0 0now0 0!0
/// "buy now"                                           0buy0 0 0 0now0
/// "no"                                                           0no0     not there
/// ```
#[derive(Debug)]
pub(super) struct Words(AhoCorasick);

/// A text in pieces.
struct Folded<'t> {
    text: String,
    /// Each piece as it was written, and where it begins in `text`.
    pieces: Vec<(usize, &'t str)>,
}

impl Words {
    pub(super) fn new(words: &[FilterWord]) -> Self {
        let words = words.iter().map(|word| folded(word.as_str()).text);
        let made = AhoCorasick::builder()
            // Small, and made quickly: lists are long and texts short.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(words);
        Self(made.expect("a list has few words, and short ones"))
    }

    /// What it holds of memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.0.memory_usage()
    }

    /// Whether a text has one of the words.
    pub(super) fn are_in(&self, text: &str) -> bool {
        self.0.is_match(&folded(text).text)
    }

    /// A text that has some of the words, without them: it has as many characters, and no more
    /// bytes.
    pub(super) fn masked_in(&self, text: &str) -> Option<String> {
        let folded = folded(text);
        let mut masked = vec![false; folded.pieces.len()];
        // Words that share pieces are found, too.
        for found in self.0.find_overlapping_iter(&folded.text) {
            masked[folded.pieces_of(found.start(), found.end())].fill(true);
        }
        if !masked.contains(&true) {
            return None;
        }
        let mut text = String::with_capacity(text.len());
        for ((_, piece), masked) in folded.pieces.iter().zip(masked) {
            let mask = |char: char| if masked && !char.is_whitespace() { MASK } else { char };
            text.extend(piece.chars().map(mask));
        }
        Some(text)
    }
}

impl Folded<'_> {
    /// The pieces within a part of the text.
    fn pieces_of(&self, start: usize, end: usize) -> RangeInclusive<usize> {
        let at = |place: usize| self.pieces.partition_point(|(begins, _)| *begins < place);
        at(start)..=at(end) - 1
    }
}

fn folded(text: &str) -> Folded<'_> {
    let mut folded = Folded { text: String::with_capacity(2 * text.len()), pieces: Vec::new() };
    for piece in text.split_word_bounds() {
        folded.pieces.push((folded.text.len(), piece));
        folded.text.push(EDGE);
        if piece.trim().is_empty() {
            // One space is as good as three.
            folded.text.push(' ');
        } else {
            folded.text.push_str(&FORMS.normalize(&CASES.fold_string(&FORMS.normalize(piece))));
        }
        folded.text.push(EDGE);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Words {
        let words: Vec<_> =
            words.iter().map(|word| FilterWord::parse(*word).expect("a word")).collect();
        Words::new(&words)
    }

    #[test]
    fn whole_words_are_masked_in_whatever_case_they_are_written() {
        let list = words(&["darn", "Straße", "ΟΔΟΣ", "c++", "buy now", "now or never", "🖕"]);
        for (text, masked) in [
            ("Darn, DARN it, darned", "****, **** it, darned"),
            ("in der STRASSE 5", "in der ******* 5"),
            ("οδος οδοσ", "**** ****"),
            ("I write C++!", "I write ***!"),
            ("Buy  NOW or never", "***  *** ** *****"),
            ("buy nowhere", "buy nowhere"),
            ("ｄａｒｎ", "****"),
            ("a🖕b", "a*b"),
        ] {
            assert_eq!(list.masked_in(text).as_deref().unwrap_or(text), masked, "{text}");
            assert_eq!(list.are_in(text), text != masked, "{text}");
        }
    }

    #[test]
    fn accents_tell_words_apart_and_how_they_are_composed_does_not() {
        let list = words(&["caf\u{e9}"]);
        assert!(list.are_in("CAFE\u{301}") && list.are_in("Caf\u{e9}"));
        assert!(!list.are_in("cafe"));
        assert_eq!(
            list.masked_in("cafe\u{301}s cafe\u{301}").as_deref(),
            Some("cafe\u{301}s *****")
        );
    }

    #[test]
    fn scripts_that_write_no_spaces_are_found_within() {
        let list = words(&["赌博", "การพนัน"]);
        assert_eq!(list.masked_in("网上赌博很好").as_deref(), Some("网上**很好"));
        assert!(list.are_in("เล่นการพนันออนไลน์"));
    }

    #[test]
    fn words_within_each_other_and_across_each_other_are_all_found() {
        let list = words(&["a", "a b", "b c d", "d e f"]);
        assert_eq!(list.masked_in("a b c d e").as_deref(), Some("* * * * e"));
        assert_eq!(list.masked_in("x a b y").as_deref(), Some("x * * y"));
    }

    #[test]
    fn a_masked_text_has_as_many_characters_and_no_more_bytes() {
        let list = words(&["ﷺ", "ab", "ß"]);
        for text in ["ﷺ ß ab", "ss ab", &"ab ".repeat(1333)] {
            let masked = list.masked_in(text).expect("something is masked");
            assert_eq!(masked.chars().count(), text.chars().count());
            assert!(masked.len() <= text.len() && !masked.contains("ab"), "{masked}");
        }
    }

    #[test]
    fn a_list_of_nothing_finds_nothing() {
        let list = words(&[]);
        assert!(!list.are_in("") && !list.are_in("anything at all"));
    }
}
