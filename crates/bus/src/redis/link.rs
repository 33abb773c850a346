//! The way to a Redis, or to a Redis Cluster, for single commands.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::RedisUrl;

/// The pause before a lost connection is made again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a connection is kept at least: while no server that is right answers at the
/// address, not every command makes another one.
const KEPT: Duration = Duration::from_millis(500);

/// The way to Redis. It connects at the first use, and again whenever the connection is lost
/// or its server is not the right one any more; the address is looked up each time.
pub struct RedisLink {
    to: To,
    lanes: Vec<Lane>,
}

enum To {
    Single(Box<(Client, ConnectionManagerConfig)>),
    Cluster(Box<ClusterClient>),
}

/// The present connection, and since when it is used.
type Lane = Mutex<Option<(Connection, Instant)>>;

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.to {
            To::Single(_) => "Single",
            To::Cluster(_) => "Cluster",
        })
    }
}

impl RedisLink {
    /// The way to the Redis at `url`, where a command takes about `within` at most, half of
    /// it for the answer. To a cluster there are so many lanes, a connection each: one that
    /// looks for a lost node holds up the commands of its lane only.
    pub fn open(url: &RedisUrl, within: Duration, lanes: usize) -> Result<Self, RedisError> {
        if let ([server], false) = (url.servers.as_slice(), url.cluster) {
            let config = ConnectionManagerConfig::new()
                .set_min_delay(PAUSE)
                .set_max_delay(within / 4)
                .set_number_of_retries(1)
                .set_connection_timeout(Some(within))
                .set_response_timeout(Some(within / 2));
            let to = To::Single(Box::new((url.client(server)?, config)));
            return Ok(Self { to, lanes: vec![Lane::default()] });
        }
        let client = url
            .cluster()
            .retries(1)
            // It connects to every node, silent ones too, before it is of use.
            .connection_timeout(within / 4)
            .response_timeout(within / 2)
            .build()?;
        let lanes = (0..lanes.max(1)).map(|_| Lane::default()).collect();
        Ok(Self { to: To::Cluster(Box::new(client)), lanes })
    }

    /// Runs a command whose keys are of one slot, on a lane. A server that is not the right
    /// one any more has done nothing: then it is run once more, over a new connection.
    pub async fn query<T: FromRedisValue>(
        &self,
        lane: usize,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        let lane = &self.lanes[lane % self.lanes.len()];
        let (connection, since) = self.connection(lane).await?;
        match connection.query(command).await {
            Err(error) if is_elsewhere(&error) && since.elapsed() >= KEPT => {
                let mut present = lane.lock().await;
                if present.as_ref().is_some_and(|(_, present)| *present == since) {
                    tracing::debug!(%error, "another server of redis is looked for");
                    *present = None;
                }
                drop(present);
                self.connection(lane).await?.0.query(command).await
            }
            answer => answer,
        }
    }

    async fn connection(&self, lane: &Lane) -> Result<(Connection, Instant), RedisError> {
        let mut present = lane.lock().await;
        if let Some(present) = &*present {
            return Ok(present.clone());
        }
        let connection = match &self.to {
            To::Single(single) => {
                let (client, config) = (**single).clone();
                Connection::Single(ConnectionManager::new_lazy_with_config(client, config)?)
            }
            To::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        };
        Ok(present.insert((connection, Instant::now())).clone())
    }
}

impl Connection {
    async fn query<T: FromRedisValue>(self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::Single(mut connection) => command.query_async(&mut connection).await,
            Self::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }
}

/// Whether only another server can do what this one refused: it is a replica by now, its
/// slots are another's, it has lost its master or its replicas, or it loads its data.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ReadOnly | MasterDown | ClusterDown | Moved | Ask | TryAgain | BusyLoading
        ),
        _ => error.code() == Some("NOREPLICAS"),
    }
}

/// Whether the connection or its server failed, and not the command.
pub fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
        || error.kind() == ErrorKind::ClusterConnectionNotFound
        || is_elsewhere(error)
}
