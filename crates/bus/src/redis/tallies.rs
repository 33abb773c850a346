//! Tallies that the replicas of a service share: what was used of a rate, and when
//! that is paid for.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, ErrorKind, RedisError, Script, ServerErrorKind};
use tokio::sync::OnceCell;

use super::RedisUrl;

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_millis(500);

/// The pause before a lost connection is made again.
const PAUSE: Duration = Duration::from_millis(50);

const SCRIPT: &str = include_str!("tallies.lua");

/// A tally could not be reached, or is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot add to a tally")]
pub struct TallyError(#[from] RedisError);

/// Tallies in a Redis, or in a Redis Cluster. Each is one key, gone some seconds after
/// it is paid for.
#[derive(Debug)]
pub struct Tallies {
    link: Link,
    space: String,
    hash: String,
}

/// The way to Redis. Both connect at the first use, and again whenever they must.
enum Link {
    Single(ConnectionManager),
    Cluster(Box<Cluster>),
}

struct Cluster {
    client: ClusterClient,
    connection: OnceCell<ClusterConnection>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Link {
    fn new(url: &RedisUrl) -> Result<Self, RedisError> {
        if let ([server], false) = (url.servers.as_slice(), url.cluster) {
            let config = ConnectionManagerConfig::new()
                .set_min_delay(PAUSE)
                .set_max_delay(ANSWER)
                .set_number_of_retries(1)
                .set_connection_timeout(Some(ANSWER))
                .set_response_timeout(Some(ANSWER));
            let client = Client::open(server.as_str())?;
            return Ok(Self::Single(ConnectionManager::new_lazy_with_config(client, config)?));
        }
        let client = ClusterClientBuilder::new(url.servers.iter().map(String::as_str))
            .retries(1)
            .connection_timeout(ANSWER)
            .response_timeout(ANSWER)
            .build()?;
        Ok(Self::Cluster(Box::new(Cluster { client, connection: OnceCell::new() })))
    }

    async fn query(&self, command: &Cmd) -> Result<i64, RedisError> {
        match self {
            Self::Single(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(cluster) => {
                let Cluster { client, connection } = &**cluster;
                let connect = || client.get_async_connection();
                let mut connection = connection.get_or_try_init(connect).await?.clone();
                command.query_async(&mut connection).await
            }
        }
    }
}

impl Tallies {
    /// The tallies of `service` in the deployment `tag`.
    pub fn open(url: &RedisUrl, tag: &str, service: &str) -> Result<Self, TallyError> {
        let hash = Script::new(SCRIPT).get_hash().to_owned();
        Ok(Self { link: Link::new(url)?, space: format!("{tag}:rate:{service}"), hash })
    }

    /// Adds `used` to the tally of `name`, which is paid for in `own` at the earliest;
    /// both in nanoseconds. Tells in how many nanoseconds the tally is paid for:
    /// negative once it is.
    ///
    /// Repeated after a lost answer it adds twice.
    pub async fn add(&self, name: &str, used: i64, own: i64) -> Result<i64, TallyError> {
        let command = |how: &str, script: &str| {
            let mut command = redis::cmd(how);
            command.arg(script).arg(1).arg(format!("{}:{{{name}}}", self.space)).arg(used).arg(own);
            command
        };
        match self.link.query(&command("EVALSHA", &self.hash)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                Ok(self.link.query(&command("EVAL", SCRIPT)).await?)
            }
            answer => Ok(answer?),
        }
    }
}
