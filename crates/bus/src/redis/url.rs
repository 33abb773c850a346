//! The address of a Redis.

use std::fmt;
use std::str::FromStr;

use redis::IntoConnectionInfo;

/// The address of a Redis, `redis://[USER:PASSWORD@]HOST:PORT`, or of some nodes of
/// a Redis Cluster, `redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) servers: Vec<String>,
    pub(super) cluster: bool,
}

/// A text that is no address of a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be redis://HOST:PORT or redis-cluster://HOST:PORT,HOST:PORT, without a database")]
pub struct InvalidRedisUrl;

impl FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRedisUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidRedisUrl)?;
        let (user, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
        let at = if user.is_empty() { "" } else { "@" };
        let server = |host: &str| format!("redis://{user}{at}{host}");
        let (servers, cluster): (Vec<_>, _) = match scheme {
            "redis" => (vec![server(hosts)], false),
            "redis-cluster" => (hosts.split(',').map(server).collect(), true),
            _ => return Err(InvalidRedisUrl),
        };
        let valid = |server: &String| {
            // A database of its own is nothing that a bus could have: channels know of none.
            let host = &server[server.rfind('@').unwrap_or("redis:/".len()) + 1..];
            !host.is_empty()
                && !host.contains(['/', '?'])
                && server.as_str().into_connection_info().is_ok()
        };
        if servers.iter().all(valid) { Ok(Self { servers, cluster }) } else { Err(InvalidRedisUrl) }
    }
}

impl RedisUrl {
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
        let elsewhere = ["", "memory", "redis:x", "http://x"];
        let incomplete = ["redis://", "redis://u:p@", "redis-cluster://a:1,,b:2"];
        let more = ["redis://a:1/", "redis://a:1/1", "redis://u:p@a/1", "redis-cluster://a,b/1"];
        for bad in elsewhere.iter().chain(&incomplete).chain(&more).chain(&["redis://a?db=1"]) {
            assert_eq!(bad.parse::<RedisUrl>(), Err(InvalidRedisUrl), "{bad}");
        }
    }
}
