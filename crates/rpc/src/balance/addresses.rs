//! Where replicas are: addresses, and names that stand for some.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

/// How long one name may take.
const WITHIN: Duration = Duration::from_secs(3);

/// What stands before addresses that speak TLS.
const TLS: &str = "https://";

/// Where the replicas of a service are: `HOST:PORT`, separated by commas, behind `https://` where
/// they speak TLS. A name stands for every address that it resolves to, now and later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    hosts: Vec<(String, u16)>,
    tls: bool,
}

/// Where replicas are, and by which name or address each is called.
pub(super) type Found = BTreeMap<SocketAddr, Arc<str>>;

/// A text that names no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be HOST:PORT or https://HOST:PORT, or several separated by commas, all alike")]
pub struct InvalidAddresses;

impl FromStr for Addresses {
    type Err = InvalidAddresses;

    fn from_str(text: &str) -> Result<Self, InvalidAddresses> {
        let one = |text: &str| {
            let (host, port) = text.trim().rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            (!host.is_empty() && !host.contains('/'))
                .then_some((host.to_owned(), port.parse().ok()?))
        };
        let tls = text.trim().starts_with(TLS);
        let all = text.split(',').map(|text| {
            let text = text.trim();
            match text.strip_prefix(TLS) {
                Some(host) if tls => one(host),
                None if !tls => one(text),
                _ => None,
            }
        });
        let hosts: Option<Vec<_>> = all.collect();
        hosts.map(|hosts| Self { hosts, tls }).ok_or(InvalidAddresses)
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { TLS } else { "" };
        for (number, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{scheme}{host}:{port}")?;
        }
        Ok(())
    }
}

impl Addresses {
    /// Whether what is there speaks TLS.
    pub fn are_secure(&self) -> bool {
        self.tls
    }

    /// Each host with its port.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, u16)> {
        self.hosts.iter().map(|(host, port)| (host.as_str(), *port))
    }

    /// Whether nothing has to be looked up.
    pub(super) fn are_fixed(&self) -> bool {
        self.hosts.iter().all(|(host, _)| host.parse::<IpAddr>().is_ok())
    }
}

/// What names stand for, each by itself: one that cannot be looked up stands for
/// what it stood for last, and does not keep the others from changing.
#[derive(Debug)]
pub(super) struct Lookups {
    addresses: Addresses,
    /// What each of them stood for last.
    last: Vec<Found>,
}

impl Lookups {
    pub(super) fn of(addresses: Addresses) -> Self {
        let last = vec![Found::new(); addresses.hosts.len()];
        Self { addresses, last }
    }

    /// What they stand for at present, all together.
    pub(super) async fn look_up(&mut self) -> Found {
        let found =
            join_all(self.addresses.hosts.iter().map(|(host, port)| find(host, *port))).await;
        self.learn(found)
    }

    fn learn(&mut self, found: Vec<Option<Found>>) -> Found {
        for (last, found) in self.last.iter_mut().zip(found) {
            if let Some(found) = found {
                *last = found;
            }
        }
        let each = self.last.iter().flatten().rev();
        each.map(|(address, host)| (*address, Arc::clone(host))).collect()
    }
}

/// `None`: it cannot be told.
async fn find(host: &str, port: u16) -> Option<Found> {
    let found = timeout(WITHIN, tokio::net::lookup_host((host, port))).await;
    let name: Arc<str> = host.into();
    let found = found.ok().and_then(Result::ok).into_iter().flatten();
    let found: Found = found.map(|address| (address, Arc::clone(&name))).collect();
    if found.is_empty() {
        tracing::warn!(host, "cannot look up the replicas of a service");
        return None;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(addresses: &[&str]) -> Found {
        let parsed = |address: &&str| (address.parse().expect("an address"), "a".into());
        addresses.iter().map(parsed).collect()
    }

    #[test]
    fn addresses_are_hosts_with_ports() {
        let read = |text: &str| text.parse::<Addresses>().map(|addresses| addresses.to_string());
        assert_eq!(read("a:1, 10.0.0.1:2"), Ok("a:1,10.0.0.1:2".to_owned()));
        assert_eq!(read("https://a:1,https://b:2"), Ok("https://a:1,https://b:2".to_owned()));
        let mixed = ["https://a:1,b:2", "a:1,https://b:2", "http://a:1"];
        for bad in ["", "a", ":1", "a:b", "a:1,", "a:70000"].into_iter().chain(mixed) {
            assert_eq!(read(bad), Err(InvalidAddresses), "{bad}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_keeps_what_it_had_and_holds_up_no_other() {
        let mut lookups = Lookups::of("one:1,two:2".parse().expect("names"));
        let learnt = lookups.learn(vec![None, Some(all(&["10.0.0.2:2"]))]);
        assert_eq!(learnt, all(&["10.0.0.2:2"]), "at the start too");
        lookups.learn(vec![Some(all(&["10.0.0.1:1"])), Some(all(&["10.0.0.2:2"]))]);
        let learnt = lookups.learn(vec![None, Some(all(&["10.0.0.3:2", "10.0.0.4:2"]))]);
        assert_eq!(learnt, all(&["10.0.0.1:1", "10.0.0.3:2", "10.0.0.4:2"]));
        assert_eq!(lookups.learn(vec![None, None]), learnt);
    }
}
