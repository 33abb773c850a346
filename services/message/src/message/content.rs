//! What a sender writes.

use std::collections::BTreeMap;

use parlance_log::Mentions;
use parlance_types::MessageId;

use super::attached::Attached;

const MAX_TEXT_CHARS: usize = 4000;
const MAX_TYPE_BYTES: usize = 64;
const MAX_PROPERTIES: usize = 32;
const MAX_KEY_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 1024;

/// The type of a message that says none.
const TEXT: &str = "text";

/// The content of a message: within its limits, free of U+0000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    kind: String,
    text: String,
    properties: BTreeMap<String, String>,
    reply_to: Option<MessageId>,
    mentions: Mentions,
    pub(super) attached: Vec<Attached>,
}

/// Which field of a content is wrong, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidContent {
    pub field: &'static str,
    pub rule: &'static str,
}

impl Content {
    /// Takes a content from the wire.
    pub fn parse(
        kind: String,
        text: String,
        properties: BTreeMap<String, String>,
        reply_to: Option<MessageId>,
    ) -> Result<Self, InvalidContent> {
        Self::parse_holding(kind, text, properties, reply_to, Vec::new())
    }

    /// The same of one that holds something beside its text, which was looked at.
    pub(super) fn parse_holding(
        kind: String,
        text: String,
        properties: BTreeMap<String, String>,
        reply_to: Option<MessageId>,
        attached: Vec<Attached>,
    ) -> Result<Self, InvalidContent> {
        let invalid = |field, rule| Err(InvalidContent { field, rule });
        let kind = if kind.is_empty() { TEXT.to_owned() } else { kind };
        if kind.len() > MAX_TYPE_BYTES || kind.chars().any(char::is_control) {
            return invalid("type", "must have at most 64 bytes and no control characters");
        }
        if text.contains('\0') {
            return invalid("text", "must not contain U+0000");
        }
        if text.chars().count() > MAX_TEXT_CHARS {
            return invalid("text", "must have at most 4000 characters");
        }
        if text.is_empty() && kind == TEXT && attached.is_empty() {
            return invalid("text", "must not be empty in a message of type text");
        }
        if properties.len() > MAX_PROPERTIES {
            return invalid("properties", "must have at most 32 pairs");
        }
        for (key, value) in &properties {
            if !(1..=MAX_KEY_BYTES).contains(&key.len()) || value.len() > MAX_VALUE_BYTES {
                return invalid(
                    "properties",
                    "must have keys of 1 to 64 bytes and values of at most 1024 bytes",
                );
            }
            if key.contains('\0') || value.contains('\0') {
                return invalid("properties", "must not contain U+0000");
            }
        }
        Ok(Self::stored(kind, text, properties, reply_to).holding(attached))
    }

    /// Takes a content that was stored, so is known to be good.
    pub fn stored(
        kind: String,
        text: String,
        properties: BTreeMap<String, String>,
        reply_to: Option<MessageId>,
    ) -> Self {
        let (mentions, attached) = (Mentions::default(), Vec::new());
        Self { kind, text, properties, reply_to, mentions, attached }
    }

    /// The type; "text" where the sender said none.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub const fn properties(&self) -> &BTreeMap<String, String> {
        &self.properties
    }

    pub const fn reply_to(&self) -> Option<MessageId> {
        self.reply_to
    }

    pub const fn mentions(&self) -> &Mentions {
        &self.mentions
    }

    /// What it holds beside its text.
    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// The same content, holding something beside its text.
    #[must_use]
    pub fn holding(self, attached: Vec<Attached>) -> Self {
        Self { attached, ..self }
    }

    /// The same content, calling on some.
    #[must_use]
    pub fn mentioning(self, mentions: Mentions) -> Self {
        Self { mentions, ..self }
    }

    /// The same content with another text, which is known to be good.
    #[must_use]
    pub fn saying(self, text: String) -> Self {
        Self { text, ..self }
    }

    /// The same content, answering `reply_to`.
    #[must_use]
    pub fn replying_to(mut self, reply_to: Option<MessageId>) -> Self {
        self.reply_to = reply_to;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Source;

    fn text(text: &str) -> Result<Content, InvalidContent> {
        Content::parse(String::new(), text.to_owned(), BTreeMap::new(), None)
    }

    #[test]
    fn a_text_has_1_to_4000_code_points() {
        assert_eq!(text("").expect_err("empty").field, "text");
        assert_eq!(text(&"é".repeat(4000)).expect("4000 code points").kind(), "text");
        assert_eq!(text(&"é".repeat(4001)).expect_err("too long").field, "text");
        assert_eq!(text("a\0b").expect_err("NUL").field, "text");
    }

    #[test]
    fn what_holds_something_needs_no_text() {
        let source = Source::Url("https://example.org".to_owned());
        let (name, content_type) = (String::new(), String::new());
        let picture =
            Attached { source, name, content_type, size: 0, width: 0, height: 0, duration: None };
        let (none, all) = (BTreeMap::new(), vec![picture]);
        let held = Content::parse_holding(String::new(), String::new(), none, None, all);
        assert_eq!(held.expect("a content").attached().len(), 1);
    }

    #[test]
    fn a_custom_type_needs_no_text() {
        let custom =
            |kind: &str| Content::parse(kind.to_owned(), String::new(), BTreeMap::new(), None);
        assert!(custom("location").is_ok());
        assert_eq!(custom(&"x".repeat(65)).expect_err("too long").field, "type");
        assert_eq!(custom("a\nb").expect_err("control").field, "type");
    }

    #[test]
    fn properties_are_few_and_small() {
        let of = |pairs: BTreeMap<String, String>| {
            Content::parse(String::new(), "x".to_owned(), pairs, None)
        };
        let pair = |key: String, value: String| of(BTreeMap::from([(key, value)]));
        assert!(pair("k".repeat(64), "v".repeat(1024)).is_ok());
        for (key, value) in [
            ("", "v".to_owned()),
            ("k", "v".repeat(1025)),
            ("k\0", String::new()),
            ("k", "\0".to_owned()),
        ] {
            assert_eq!(pair(key.to_owned(), value).expect_err("refused").field, "properties");
        }
        assert!(of((0..33).map(|n| (n.to_string(), String::new())).collect()).is_err());
    }
}
