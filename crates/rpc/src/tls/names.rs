//! The names in a certificate by which a service of the suite is known.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A name of a service in its certificate: a DNS name, or a URI such as a SPIFFE id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerName {
    Dns(String),
    Uri(String),
}

/// A text that is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a DNS name without *, or a URI as in spiffe://example.org/message")]
pub struct InvalidPeerName;

impl FromStr for PeerName {
    type Err = InvalidPeerName;

    fn from_str(text: &str) -> Result<Self, InvalidPeerName> {
        let text = text.trim();
        if let Some((scheme, path)) = text.split_once("://") {
            let good =
                !scheme.is_empty() && !path.is_empty() && !text.contains(char::is_whitespace);
            return if good { Ok(Self::Uri(text.to_owned())) } else { Err(InvalidPeerName) };
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let good = !text.is_empty() && text.chars().all(plain);
        if good { Ok(Self::Dns(text.to_ascii_lowercase())) } else { Err(InvalidPeerName) }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Dns(name) | Self::Uri(name)) = self;
        f.write_str(name)
    }
}

/// The names that a certificate has; none if it cannot be read. A pattern for names (`*`) is
/// the name of nobody.
pub(super) fn names_of(certificate: &CertificateDer<'_>) -> Vec<PeerName> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.clone()).unwrap_or_default();
    let name = |name: GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(PeerName::Dns(name.to_ascii_lowercase())),
        GeneralName::URI(name) => Some(PeerName::Uri(name.to_owned())),
        _ => None,
    };
    names.into_iter().filter_map(name).collect()
}

/// From when until when a certificate holds, in seconds since 1970.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}
