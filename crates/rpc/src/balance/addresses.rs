//! Where replicas are: addresses, and names that stand for some.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

/// How long one name may take.
const WITHIN: Duration = Duration::from_secs(3);

/// Where the replicas of a service are: `HOST:PORT`, separated by commas. A name
/// stands for every address that it resolves to, now and later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(Vec<(String, u16)>);

/// A text that names no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be HOST:PORT, or several separated by commas")]
pub struct InvalidAddresses;

impl FromStr for Addresses {
    type Err = InvalidAddresses;

    fn from_str(text: &str) -> Result<Self, InvalidAddresses> {
        let one = |text: &str| {
            let (host, port) = text.trim().rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            (!host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
        };
        let all: Option<Vec<_>> = text.split(',').map(one).collect();
        all.map(Self).ok_or(InvalidAddresses)
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (host, port)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{host}:{port}")?;
        }
        Ok(())
    }
}

impl Addresses {
    /// Whether nothing has to be looked up.
    pub(super) fn are_fixed(&self) -> bool {
        self.0.iter().all(|(host, _)| host.parse::<IpAddr>().is_ok())
    }
}

/// What names stand for, each by itself: one that cannot be looked up stands for
/// what it stood for last, and does not keep the others from changing.
#[derive(Debug)]
pub(super) struct Lookups {
    addresses: Addresses,
    /// What each of them stood for last.
    last: Vec<BTreeSet<SocketAddr>>,
}

impl Lookups {
    pub(super) fn of(addresses: Addresses) -> Self {
        let last = vec![BTreeSet::new(); addresses.0.len()];
        Self { addresses, last }
    }

    /// What they stand for at present, all together.
    pub(super) async fn look_up(&mut self) -> BTreeSet<SocketAddr> {
        let found = join_all(self.addresses.0.iter().map(|(host, port)| find(host, *port))).await;
        self.learn(found)
    }

    fn learn(&mut self, found: Vec<Option<BTreeSet<SocketAddr>>>) -> BTreeSet<SocketAddr> {
        for (last, found) in self.last.iter_mut().zip(found) {
            if let Some(found) = found {
                *last = found;
            }
        }
        self.last.iter().flatten().copied().collect()
    }
}

/// `None`: it cannot be told.
async fn find(host: &str, port: u16) -> Option<BTreeSet<SocketAddr>> {
    let found = timeout(WITHIN, tokio::net::lookup_host((host, port))).await;
    let found: BTreeSet<_> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
    if found.is_empty() {
        tracing::warn!(host, "cannot look up the replicas of a service");
        return None;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(addresses: &[&str]) -> BTreeSet<SocketAddr> {
        addresses.iter().map(|address| address.parse().expect("an address")).collect()
    }

    #[test]
    fn addresses_are_hosts_with_ports() {
        let read = |text: &str| text.parse::<Addresses>().map(|addresses| addresses.to_string());
        assert_eq!(read("a:1, 10.0.0.1:2"), Ok("a:1,10.0.0.1:2".to_owned()));
        for bad in ["", "a", ":1", "a:b", "a:1,", "a:70000"] {
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
