//! The way to a Redis, or to a Redis Cluster, for single commands.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, FromRedisValue, RedisError};
use tokio::sync::OnceCell;

use super::RedisUrl;

/// How long Redis may take to answer.
pub(super) const ANSWER: Duration = Duration::from_millis(500);

/// The pause before a lost connection is made again.
const PAUSE: Duration = Duration::from_millis(50);

/// The way to Redis. Both connect at the first use, and again whenever they must.
pub(super) enum Link {
    Single(ConnectionManager),
    Cluster(Box<Cluster>),
}

pub(super) struct Cluster {
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
    pub(super) fn new(url: &RedisUrl) -> Result<Self, RedisError> {
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

    /// Runs a command of one key.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
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
