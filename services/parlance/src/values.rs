//! The values that settings take.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use parlance_bus::RedisUrl;
use parlance_message::attachment::Place;
use serde::{Deserialize, Deserializer, de};

/// A span of time: a whole number and `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A text that is no span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number and ms, s, m or h, as in 30s")]
pub struct InvalidSpan;

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidSpan)?;
        let (count, unit) = text.split_at(unit);
        let count: u64 = count.parse().map_err(|_| InvalidSpan)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(InvalidSpan),
        };
        let millis = count.checked_mul(millis).ok_or(InvalidSpan)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis % 3_600_000 == 0 => write!(f, "{}h", millis / 3_600_000),
            millis if millis % 60_000 == 0 => write!(f, "{}m", millis / 60_000),
            millis if millis % 1000 == 0 => write!(f, "{}s", millis / 1000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

/// Where everything is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Store {
    /// SQLite files in a folder.
    Sqlite(PathBuf),
    /// Schemas of a Postgres database.
    Postgres(String),
}

/// A text that names no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be sqlite://FOLDER or postgres://USER:PASSWORD@HOST/DATABASE")]
pub struct InvalidStore;

impl FromStr for Store {
    type Err = InvalidStore;

    fn from_str(text: &str) -> Result<Self, InvalidStore> {
        match text.split_once("://") {
            Some(("sqlite", folder)) if !folder.is_empty() => Ok(Self::Sqlite(folder.into())),
            Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => {
                Ok(Self::Postgres(text.to_owned()))
            }
            _ => Err(InvalidStore),
        }
    }
}

/// Without the address of a database: it may hold a password.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(folder) => write!(f, "sqlite in {}", folder.display()),
            Self::Postgres(_) => f.write_str("postgres"),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What carries hints between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The memory of this process.
    Memory,
    /// A Redis, or a Redis Cluster.
    Redis(RedisUrl),
}

/// A text that names no bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be memory, redis://HOST:PORT or redis-cluster://HOST:PORT,HOST:PORT (over TLS rediss, \
     rediss-cluster), without a database: \
     deployments on one Redis are told apart by bus-tag"
)]
pub struct InvalidBus;

impl FromStr for Bus {
    type Err = InvalidBus;

    fn from_str(text: &str) -> Result<Self, InvalidBus> {
        match text {
            "memory" => Ok(Self::Memory),
            url => url.parse().map(Self::Redis).map_err(|_| InvalidBus),
        }
    }
}

/// Where the bytes of attachments are kept, if there are attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachments(pub Option<Place>);

/// A text that names no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be none, file:///FOLDER or s3://BUCKET/PREFIX")]
pub struct InvalidAttachments;

impl FromStr for Attachments {
    type Err = InvalidAttachments;

    fn from_str(text: &str) -> Result<Self, InvalidAttachments> {
        match text {
            "none" => Ok(Self(None)),
            place => place.parse().map(Some).map(Self).map_err(|_| InvalidAttachments),
        }
    }
}

/// Reads a value of the configuration file as flags are read.
pub(crate) fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    without_line_end(&text).parse().map(Some).map_err(de::Error::custom)
}

/// Reads a list of values of the configuration file as flags are read.
pub(crate) fn parsed_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = |text: &String| without_line_end(text).parse().map_err(de::Error::custom);
    texts.iter().map(parsed).collect()
}

/// A text of several lines in the file ends with one.
fn without_line_end(text: &str) -> &str {
    text.trim_end_matches(['\n', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, millis) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            let span: Span = text.parse().expect("a span");
            assert_eq!(span.0, Duration::from_millis(millis));
            assert_eq!(span.to_string(), text);
        }
        for bad in ["", "s", "30", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s"] {
            assert_eq!(bad.parse::<Span>(), Err(InvalidSpan), "{bad}");
        }
    }

    #[test]
    fn a_bus_is_memory_or_a_redis_and_never_shows_a_password() {
        assert_eq!("memory".parse(), Ok(Bus::Memory));
        let bus: Bus = "redis-cluster://ann:secret@a:1,b:2".parse().expect("a bus");
        assert_eq!(format!("{bus:?}"), "Redis(redis cluster)");
        for bad in
            ["", "redis", "redis://", "redis://a:1/2", "redis-cluster://a:1,,b:2", "http://x"]
        {
            assert_eq!(bad.parse::<Bus>(), Err(InvalidBus), "{bad}");
        }
    }

    #[test]
    fn attachments_are_in_a_place_or_nowhere() {
        assert_eq!("none".parse(), Ok(Attachments(None)));
        let folder = Place::Folder("/var/lib/parlance".into());
        assert_eq!("file:///var/lib/parlance".parse(), Ok(Attachments(Some(folder))));
        for bad in ["", "/var/lib/parlance", "s3://", "gs://bucket"] {
            assert_eq!(bad.parse::<Attachments>(), Err(InvalidAttachments), "{bad}");
        }
    }

    #[test]
    fn a_store_never_shows_a_password() {
        let store: Store = "postgres://ann:secret@host/db".parse().expect("a store");
        assert_eq!(format!("{store} {store:?}"), "postgres postgres");
        let store: Store = "sqlite://./data".parse().expect("a store");
        assert_eq!(store, Store::Sqlite("./data".into()));
        for bad in ["", "data", "sqlite://", "sqlite:data", "mysql://x", "postgres://"] {
            assert_eq!(bad.parse::<Store>(), Err(InvalidStore), "{bad}");
        }
    }
}
