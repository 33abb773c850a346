//! What settings must be, alone and together.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parlance_message::attachment::Place;
use parlance_rpc::{INTERNAL_AUDIENCE, Origin, Web};
use parlance_types::TenantId;

use super::{Config, Settings};
use crate::Failure;
use crate::failure::chain;
use crate::values::{Bus, Span, Store};

impl Config {
    /// What no setting can be judged for alone.
    pub(super) fn check_together(self) -> Result<Self, Failure> {
        let wrong = |setting: &str, rule: &str| Err(Failure::setting(setting, rule));
        if self.deadline > self.max_deadline {
            return wrong("deadline", "must not be longer than max-deadline");
        }
        if self.audience == INTERNAL_AUDIENCE {
            let rule = "must not be the one that the services use among each other";
            return wrong("audience", rule);
        }
        for (setting, value) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if value.is_empty() {
                return wrong(setting, "must not be empty");
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=64).contains(&self.bus_tag.len()) || !self.bus_tag.chars().all(plain) {
            return wrong("bus-tag", "must be 1 to 64 letters, digits, - and _");
        }
        if self.auth_keys.is_empty() && matches!(self.store, Store::Postgres(_)) {
            return wrong("auth-key", "is required with a Postgres store");
        }
        if !self.tls.peers.is_empty() && (self.tls.identity.is_none() || self.tls.ca.is_none()) {
            return wrong("tls-peer", "needs tls-cert, tls-key and tls-ca");
        }
        Ok(self)
    }
}

/// A list where one is given, else another.
pub(super) fn first<T>(list: Vec<T>, other: Vec<T>) -> Vec<T> {
    if list.is_empty() { other } else { list }
}

/// A certificate and its key: both or none.
pub(super) fn pair(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Failure::setting("tls-key", "is required with tls-cert")),
        (None, Some(_)) => Err(Failure::setting("tls-cert", "is required with tls-key")),
    }
}

/// Who may call from a browser.
pub(super) fn web(on: Option<bool>, origins: Vec<Origin>) -> Result<Option<Web>, Failure> {
    match on {
        Some(true) => Ok(Some(Web { origins })),
        _ if origins.is_empty() => Ok(None),
        _ => Err(Failure::setting("grpc-web-origins", "needs grpc-web to be true")),
    }
}

/// The bus, and whom it is trusted by.
pub(super) fn bus(bus: Option<Bus>, ca: Option<&Path>) -> Result<Bus, Failure> {
    let bus = bus.unwrap_or(Bus::Memory);
    let Some(path) = ca else { return Ok(bus) };
    let Bus::Redis(url) = bus else {
        return Err(Failure::setting("bus-ca", "needs a bus that is a Redis"));
    };
    let pem = std::fs::read(path).map_err(|error| Failure::unusable("bus-ca", &error))?;
    url.trusting(pem).map(Bus::Redis).map_err(|error| Failure::unusable("bus-ca", &error))
}

/// Where the bytes of attachments are that nobody gave a place: beside files, but not beside a
/// server.
pub(super) fn beside(store: &Store) -> Option<Place> {
    match store {
        Store::Sqlite(folder) => Some(Place::Folder(folder.join("attachments"))),
        Store::Postgres(_) => None,
    }
}

pub(super) fn read(path: &Path) -> Result<Settings, Failure> {
    let file = config::File::from(path).format(config::FileFormat::Toml);
    let settings = config::Config::builder().add_source(file).build();
    settings.and_then(config::Config::try_deserialize).map_err(|error| {
        Failure::Usage(format!("cannot use the file {}: {}", path.display(), chain(&error)))
    })
}

/// Names of tenants.
pub(super) fn tenants(name: &str, tenants: Vec<String>) -> Result<Vec<TenantId>, Failure> {
    let parsed = tenants.into_iter().map(TenantId::parse).collect::<Result<_, _>>();
    parsed.map_err(|invalid| Failure::setting(name, &invalid.to_string()))
}

/// A number within its bounds.
pub(super) fn within<T: PartialOrd + Display>(
    name: &str,
    value: Option<T>,
    default: T,
    bounds: RangeInclusive<T>,
) -> Result<T, Failure> {
    let value = value.unwrap_or(default);
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (from, to) = bounds.into_inner();
    Err(Failure::setting(name, &format!("must be {from} to {to}, not {value}")))
}

/// A span of time within its bounds.
pub(super) fn time(
    name: &str,
    value: Option<Span>,
    default: Duration,
    bounds: RangeInclusive<Duration>,
) -> Result<Duration, Failure> {
    let (from, to) = bounds.into_inner();
    within(name, value, Span(default), Span(from)..=Span(to)).map(|span| span.0)
}
