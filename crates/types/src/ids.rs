//! Ids: what names things, and what they may look like.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The longest id, in bytes.
const MAX_BYTES: usize = 128;

/// A string that cannot be an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 128 bytes and no control characters")]
pub struct InvalidId;

/// Declares a newtype for one kind of id that callers may choose.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes an id from the wire: 1 to 128 bytes, no control characters.
            pub fn parse(id: impl Into<String>) -> Result<Self, InvalidId> {
                let id = id.into();
                let fits = (1..=MAX_BYTES).contains(&id.len());
                if fits && !id.chars().any(char::is_control) { Ok(Self(id)) } else { Err(InvalidId) }
            }

            /// Takes an id that is known to be good, from the database or a test.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Names a tenant. Comes from the verified token only.
    TenantId
);
id!(
    /// Names a room within a tenant. May be used again after the room was deleted.
    RoomId
);
id!(
    /// Names a user within a tenant.
    UserId
);
id!(
    /// Names an attempt to write, so that a retry does not write twice.
    RequestId
);
id!(
    /// Names a device among those of its user.
    Resource
);
id!(
    /// Names a session of a device. Made by presence.
    SessionId
);

impl UserId {
    /// Every user of a tenant: what is told to all of them is told to this one.
    pub fn everybody() -> Self {
        Self(String::new())
    }
}

impl RequestId {
    /// The id as one of `backend`, a caller that acts for no user: two backends of a tenant
    /// that choose the same id do not meet. No caller can send what it is made of.
    #[must_use]
    pub fn of_backend(self, backend: &str) -> Self {
        Self(format!("\u{2}{backend}\u{2}{}", self.0))
    }
}

/// A place in a log: 1, 2, 3... 0 is before the first event.
pub type Seq = i64;

/// Names the log of one life of a room. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub Uuid);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl FromStr for LogId {
    type Err = InvalidId;

    fn from_str(id: &str) -> Result<Self, InvalidId> {
        id.parse().map(Self).map_err(|_| InvalidId)
    }
}

/// Names an event, and so a message: the log and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    pub log_id: LogId,
    pub seq: Seq,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.log_id, self.seq)
    }
}

impl FromStr for MessageId {
    type Err = InvalidId;

    /// Accepts exactly what `Display` writes, so that one message has one id.
    fn from_str(id: &str) -> Result<Self, InvalidId> {
        let (log_id, seq) = id.split_once('-').ok_or(InvalidId)?;
        let parsed = Self { log_id: log_id.parse()?, seq: seq.parse().map_err(|_| InvalidId)? };
        if parsed.seq > 0 && parsed.to_string() == id { Ok(parsed) } else { Err(InvalidId) }
    }
}

/// Names an attachment: the log of its room, and the attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId {
    pub log_id: LogId,
    pub id: Uuid,
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.log_id, self.id.as_simple())
    }
}

impl FromStr for AttachmentId {
    type Err = InvalidId;

    /// Accepts exactly what `Display` writes, so that one attachment has one id.
    fn from_str(id: &str) -> Result<Self, InvalidId> {
        let (log_id, own) = id.split_once('-').ok_or(InvalidId)?;
        let parsed = Self { log_id: log_id.parse()?, id: own.parse().map_err(|_| InvalidId)? };
        if parsed.to_string() == id { Ok(parsed) } else { Err(InvalidId) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_1_to_128_bytes_without_control_characters() {
        for bad in ["", "a\0b", "a\nb", "\u{85}", &"x".repeat(129), &"é".repeat(65)] {
            assert_eq!(RoomId::parse(bad), Err(InvalidId), "{bad:?}");
        }
        for good in ["a", "ann@example.org", "Ünïcödé", "a b", &"x".repeat(128)] {
            assert_eq!(RoomId::parse(good).expect("a good id").as_str(), good);
        }
    }

    #[test]
    fn a_message_id_reads_back_and_has_one_spelling() {
        let id = MessageId { log_id: LogId(Uuid::from_u128(7)), seq: 42 };
        assert_eq!(id.to_string().parse(), Ok(id));
        let text = id.to_string();
        for bad in ["", "-", "x-1", &text.to_uppercase().replace('0', "O"), &format!("{text}0x")] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad:?}");
        }
        for seq in ["0", "-1", "+42", "042"] {
            assert!(format!("{}-{seq}", id.log_id).parse::<MessageId>().is_err(), "{seq}");
        }
    }

    #[test]
    fn an_attachment_id_reads_back_and_has_one_spelling() {
        let id = AttachmentId { log_id: LogId(Uuid::from_u128(7)), id: Uuid::from_u128(0xa) };
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        let (log_id, own) = text.split_once('-').expect("two ids");
        for bad in ["", "-", own, &text.to_uppercase(), &format!("{log_id}-1")] {
            assert!(bad.parse::<AttachmentId>().is_err(), "{bad:?}");
        }
        assert!(format!("{log_id}-{}", id.id.as_hyphenated()).parse::<AttachmentId>().is_err());
    }
}
