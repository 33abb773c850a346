//! What a message holds beside its text.

use std::time::Duration;

use bytes::Bytes;
use parlance_log::{Error, Upload};
use parlance_types::{AttachmentId, LogId};
use uuid::Uuid;

use super::{Content, InvalidContent};

/// The most that a message holds.
pub(super) const MAX_ATTACHED: usize = 10;

const MAX_NAME_BYTES: usize = 255;
const MAX_TYPE_BYTES: usize = 127;
const MAX_URL_BYTES: usize = 2048;
const MAX_INLINE: usize = 4096;
const MAX_PIXELS: i32 = 1_000_000;

/// Something that a message holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub source: Source,
    pub name: String,
    pub content_type: String,
    /// In bytes; 0: not known.
    pub size: i64,
    /// In pixels; 0: not known.
    pub width: i32,
    pub height: i32,
    pub duration: Option<Duration>,
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Stored(AttachmentId),
    Url(String),
    Inline(Bytes),
}

/// Whether a text can be the name of a file.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

/// Whether a text can be a media type. Which there are the server does not know.
pub(crate) fn is_content_type(content_type: &str) -> bool {
    let printable = |byte: u8| (0x20..0x7f).contains(&byte);
    content_type.len() <= MAX_TYPE_BYTES && content_type.bytes().all(printable)
}

impl Attached {
    /// Whether it is within its limits.
    pub(super) fn check(&self) -> Result<(), InvalidContent> {
        let invalid = |field, rule| Err(InvalidContent { field, rule });
        match &self.source {
            Source::Url(url) => {
                let is_web = url.starts_with("https://") || url.starts_with("http://");
                let plain = !url.chars().any(|c| c.is_control() || c.is_whitespace());
                if !is_web || !plain || url.len() > MAX_URL_BYTES {
                    let rule = "must be an http or https URL of at most 2048 bytes";
                    return invalid("url", rule);
                }
            }
            Source::Inline(data) if !(1..=MAX_INLINE).contains(&data.len()) => {
                return invalid("inline_data", "must have 1 to 4096 bytes");
            }
            Source::Stored(_) | Source::Inline(_) => {}
        }
        if !is_name(&self.name) {
            return invalid("name", "must have at most 255 bytes and no control characters");
        }
        if !is_content_type(&self.content_type) {
            return invalid("content_type", "must have at most 127 bytes of printable ASCII");
        }
        if self.size < 0 {
            return invalid("size", "must not be negative");
        }
        for (field, pixels) in [("width", self.width), ("height", self.height)] {
            if !(0..=MAX_PIXELS).contains(&pixels) {
                return invalid(field, "must be 0 to 1000000");
            }
        }
        Ok(())
    }
}

impl Content {
    /// The ids of the uploads that it holds.
    pub fn stored_ids(&self) -> impl Iterator<Item = AttachmentId> {
        self.attached().iter().filter_map(|attached| match attached.source {
            Source::Stored(id) => Some(id),
            Source::Url(_) | Source::Inline(_) => None,
        })
    }

    /// The uploads that it holds, which must be of this log.
    pub(super) fn uploads(&self, log_id: LogId) -> Result<Vec<Uuid>, Error> {
        let own = |id: AttachmentId| (id.log_id == log_id).then_some(id.id);
        let all: Option<Vec<_>> = self.stored_ids().map(own).collect();
        all.ok_or(Error::attachment_not_found())
    }

    /// The same content, which says of the uploads that it holds what they were created with.
    pub(super) fn describing(mut self, uploads: &[Upload]) -> Self {
        for attached in &mut self.attached {
            let Source::Stored(id) = attached.source else { continue };
            if let Some(upload) = uploads.iter().find(|upload| upload.attachment_id == id.id) {
                attached.name.clone_from(&upload.name);
                attached.content_type.clone_from(&upload.content_type);
                attached.size = upload.size;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Attached {
        let source = Source::Url(url.to_owned());
        let (name, content_type) = (String::new(), String::new());
        Attached { source, name, content_type, size: 0, width: 0, height: 0, duration: None }
    }

    fn wrong(attached: &Attached) -> Option<&'static str> {
        attached.check().err().map(|invalid| invalid.field)
    }

    #[test]
    fn what_is_wrong_with_an_attachment_is_named() {
        let good = || at("https://example.org/a.png");
        assert_eq!(wrong(&good()), None);
        for bad in ["", "ftp://x", "javascript:x", "https://a b", "https://a\n"] {
            assert_eq!(wrong(&at(bad)), Some("url"), "{bad:?}");
        }
        assert_eq!(wrong(&at(&format!("https://{}", "x".repeat(2041)))), Some("url"));
        let inline = |size: usize| {
            let source = Source::Inline(vec![7; size].into());
            wrong(&Attached { source, ..good() })
        };
        assert_eq!([inline(1), inline(4096)], [None; 2]);
        assert_eq!([inline(0), inline(4097)], [Some("inline_data"); 2]);
        for (bad, field) in [
            (Attached { name: "a\n".to_owned(), ..good() }, "name"),
            (Attached { name: "x".repeat(256), ..good() }, "name"),
            (Attached { content_type: "é".to_owned(), ..good() }, "content_type"),
            (Attached { content_type: "x".repeat(128), ..good() }, "content_type"),
            (Attached { size: -1, ..good() }, "size"),
            (Attached { width: -1, ..good() }, "width"),
            (Attached { height: 1_000_001, ..good() }, "height"),
        ] {
            assert_eq!(wrong(&bad), Some(field));
        }
    }
}
