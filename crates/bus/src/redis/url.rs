//! The address of a Redis.

use std::fmt;
use std::str::FromStr;

use redis::cluster::ClusterClientBuilder;
use redis::{Client, IntoConnectionInfo, RedisError, TlsCertificates};

/// The address of a Redis, `redis://[USER:PASSWORD@]HOST:PORT`, or of some nodes of
/// a Redis Cluster, `redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`; with an `s` behind
/// `redis` where they speak TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) servers: Vec<String>,
    pub(super) cluster: bool,
    /// The CA of its certificate, as PEM; without one whom the platform trusts.
    ca: Option<Vec<u8>>,
}

/// A text that is no address of a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be redis://HOST:PORT or redis-cluster://HOST:PORT,HOST:PORT, without a database")]
pub struct InvalidRedisUrl;

/// Why nobody is trusted for what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRedisCa {
    #[error("the bus is reached without TLS: its address must begin with rediss")]
    Plain,
    #[error("it holds no certificates as PEM")]
    Unusable(#[source] redis::RedisError),
}

impl FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRedisUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidRedisUrl)?;
        let (user, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
        let at = if user.is_empty() { "" } else { "@" };
        // A password may have what would end its part of an address; no such sign is meant so.
        let user = user.replace('/', "%2F").replace('?', "%3F").replace('#', "%23");
        let user = user.replace('@', "%40");
        let (tls, cluster) = match scheme {
            "redis" => ("", false),
            "rediss" => ("s", false),
            "redis-cluster" => ("", true),
            "rediss-cluster" => ("s", true),
            _ => return Err(InvalidRedisUrl),
        };
        let server = |host: &str| format!("redis{tls}://{user}{at}{host}");
        let servers: Vec<_> =
            if cluster { hosts.split(',').map(server).collect() } else { vec![server(hosts)] };
        let valid = |server: &String| {
            // A database of its own is nothing that a bus could have: channels know of none.
            let host = server.rsplit_once('@').or_else(|| server.split_once("://"));
            let host = host.map_or("", |(_, host)| host);
            !host.is_empty()
                && !host.contains(['/', '?', '#'])
                && server.as_str().into_connection_info().is_ok()
        };
        let url = Self { servers, cluster, ca: None };
        if url.servers.iter().all(valid) { Ok(url) } else { Err(InvalidRedisUrl) }
    }
}

impl RedisUrl {
    /// Whether it leads to a Redis Cluster.
    pub const fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// Trusts the CA whose certificate this is, as PEM, and nobody else.
    pub fn trusting(self, ca: Vec<u8>) -> Result<Self, InvalidRedisCa> {
        if !self.servers.iter().all(|server| server.starts_with("rediss:")) {
            return Err(InvalidRedisCa::Plain);
        }
        let url = Self { ca: Some(ca), ..self };
        for server in &url.servers {
            url.client(server).map_err(InvalidRedisCa::Unusable)?;
        }
        Ok(url)
    }

    /// A client of one of the servers.
    pub(super) fn client(&self, server: &str) -> Result<Client, RedisError> {
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(server, certificates),
            None => Client::open(server),
        }
    }

    /// A client of the cluster.
    pub(super) fn cluster(&self) -> ClusterClientBuilder {
        let builder = ClusterClientBuilder::new(self.servers.iter().map(String::as_str));
        match self.certificates() {
            Some(certificates) => builder.certs(certificates),
            None => builder,
        }
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = self.ca.clone()?;
        Some(TlsCertificates { client_tls: None, root_cert: Some(root_cert) })
    }

    /// The URLs of the server, or of the nodes of the cluster that are known, with their passwords.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }
}

/// Without the address: it may hold a password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.cluster { "redis cluster" } else { "redis" })
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_server_or_nodes_of_a_cluster() {
        let url: RedisUrl = "redis://127.0.0.1:6379".parse().expect("a url");
        assert_eq!((url.servers.len(), url.cluster), (1, false));
        let url: RedisUrl = "redis-cluster://u:p@a:1,b:2".parse().expect("a url");
        assert_eq!(url.servers, ["redis://u:p@a:1", "redis://u:p@b:2"]);
        assert_eq!(format!("{url} {url:?}"), "redis cluster redis cluster");
        let url: RedisUrl = "rediss://u:a@b/c#d?e%25@a:1".parse().expect("a url");
        assert_eq!(url.servers, ["rediss://u:a%40b%2Fc%23d%3Fe%25@a:1"]);
        let url: RedisUrl = "rediss-cluster://a:1,b:2".parse().expect("a url");
        assert_eq!(
            (url.servers.as_slice(), url.cluster),
            (&["rediss://a:1".to_owned(), "rediss://b:2".to_owned()][..], true)
        );
        let insecure = "rediss://a:1/#insecure".parse::<RedisUrl>();
        assert_eq!(insecure, Err(InvalidRedisUrl));
        let elsewhere = ["", "memory", "redis:x", "http://x"];
        let incomplete = ["redis://", "redis://u:p@", "redis-cluster://a:1,,b:2"];
        let more = ["redis://a:1/", "redis://a:1/1", "redis://u:p@a/1", "redis-cluster://a,b/1"];
        for bad in elsewhere.iter().chain(&incomplete).chain(&more).chain(&["redis://a?db=1"]) {
            assert_eq!(bad.parse::<RedisUrl>(), Err(InvalidRedisUrl), "{bad}");
        }
    }
}
