//! A connection to a Redis or to every master of a Redis Cluster.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, ProtocolVersion, PushInfo, RedisError, Value,
};

use super::link::is_elsewhere;
use super::subscriber::{Channels, Subscriber};
use super::{Options, RedisUrl, Shared};
use crate::SHARDS;

/// Slots of a Redis Cluster.
const SLOTS: u16 = 16384;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("redis failed")]
    Redis(#[from] RedisError),
    #[error("redis did not answer in time")]
    Timeout,
    #[error("the connection ended")]
    Ended,
    #[error("a canary did not come back")]
    MissedCanary,
    #[error("redis told of its slots what nobody understands")]
    Slots,
}

/// A connection whose subscriptions are all acknowledged.
pub(super) struct Connection {
    conn: Conn,
    pub(super) subscriber: Arc<Subscriber>,
    /// One channel per server.
    pub(super) canaries: Vec<String>,
}

#[derive(Clone)]
enum Conn {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn open(
        url: &RedisUrl,
        options: &Options,
        shared: &Arc<Shared>,
    ) -> Result<Self, Lost> {
        let channels = Channels::new(&options.tag);
        let canaries = if url.cluster {
            canaries(&channels, &masters(url, options).await?)
        } else {
            vec![channels.canary(0)]
        };
        let subscriber = Arc::new(Subscriber::new(Arc::clone(shared), &channels, &canaries));
        let mut wanted: Vec<_> = (0..SHARDS).map(|shard| channels.shard(shard)).collect();
        wanted.push(channels.lost());
        wanted.extend(canaries.iter().cloned());

        let conn = Conn::open(url, options, &subscriber).await?;
        conn.subscribe(&wanted).await?;
        if !subscriber.acknowledged(wanted.len()).await {
            return Err(Lost::Ended);
        }
        let connection = Self { conn, subscriber, canaries };
        connection.check_servers().await?;
        Ok(connection)
    }

    /// Asks every server for a write that changes nothing. One that is a replica by now
    /// carries what is published to its own subscribers, and to nobody else.
    pub(super) async fn check_servers(&self) -> Result<(), Lost> {
        let checks = self.canaries.iter().map(|canary| async move {
            let mut delete = redis::cmd("DEL");
            delete.arg(canary);
            match self.conn.clone().command(&delete).await {
                // It is the right one, and refuses for reasons of its own.
                Err(error) if is_refusal(&error) && !is_elsewhere(&error) => Ok(()),
                answer => answer.map_err(Lost::from),
            }
        });
        try_join_all(checks).await.map(drop)
    }

    /// Publishes payloads of one channel, in order, in one round trip.
    pub(super) async fn publish(&self, channel: &str, payloads: &[Bytes]) -> Result<(), Lost> {
        let mut conn = self.conn.clone();
        let name = if matches!(conn, Conn::Single(_)) { "PUBLISH" } else { "SPUBLISH" };
        let mut pipeline = Pipeline::with_capacity(payloads.len());
        for payload in payloads {
            pipeline.cmd(name).arg(channel).arg(payload.as_ref()).ignore();
        }
        conn.run(&pipeline).await?;
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.subscriber.end();
    }
}

impl Conn {
    async fn open(
        url: &RedisUrl,
        options: &Options,
        subscriber: &Arc<Subscriber>,
    ) -> Result<Self, Lost> {
        let subscriber = Arc::clone(subscriber);
        let hear = move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            subscriber.hear(push);
            Ok(())
        };
        if url.cluster {
            let client = cluster(url, options).push_sender(hear).build()?;
            return Ok(Self::Cluster(client.get_async_connection().await?));
        }
        let server = url.servers.first().ok_or(Lost::Ended)?;
        let client = url.client(&format!("{server}/?protocol=resp3"))?;
        let config = AsyncConnectionConfig::new()
            .set_push_sender(hear)
            .set_connection_timeout(Some(options.connect))
            .set_response_timeout(Some(options.response));
        Ok(Self::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    async fn subscribe(&self, channels: &[String]) -> Result<(), Lost> {
        match self.clone() {
            Self::Single(mut conn) => conn.subscribe(channels).await?,
            // One by one: the channels belong to different slots.
            Self::Cluster(conn) => {
                let subscribe = |channel: &String| {
                    let (mut conn, channel) = (conn.clone(), channel.clone());
                    async move { conn.ssubscribe(channel).await }
                };
                try_join_all(channels.iter().map(subscribe)).await?;
            }
        }
        Ok(())
    }

    async fn command(&mut self, command: &Cmd) -> Result<(), RedisError> {
        match self {
            Self::Single(conn) => command.exec_async(conn).await,
            Self::Cluster(conn) => command.exec_async(conn).await,
        }
    }

    async fn run(&mut self, pipeline: &Pipeline) -> Result<(), RedisError> {
        match self {
            Self::Single(conn) => pipeline.exec_async(conn).await,
            Self::Cluster(conn) => pipeline.exec_async(conn).await,
        }
    }
}

/// Whether it is the answer of a server.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Without retries: a session that is in trouble is built anew, slots included.
fn cluster(url: &RedisUrl, options: &Options) -> ClusterClientBuilder {
    url.cluster()
        .use_protocol(ProtocolVersion::RESP3)
        .retries(0)
        .connection_timeout(options.connect)
        .response_timeout(options.response)
}

/// The master of each range of slots.
async fn masters(
    url: &RedisUrl,
    options: &Options,
) -> Result<Vec<(std::ops::RangeInclusive<u16>, String)>, Lost> {
    let mut conn = cluster(url, options).build()?.get_async_connection().await?;
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
    let slots = conn.route_command(command, route).await?;
    let ranges: Vec<Vec<Value>> = redis::from_redis_value(slots).map_err(|_| Lost::Slots)?;
    let range = |range: Vec<Value>| {
        let [first, last, master, ..] = range.as_slice() else { return None };
        let (Value::Int(first), Value::Int(last), Value::Array(master)) = (first, last, master)
        else {
            return None;
        };
        let slots = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
        Some((slots, format!("{master:?}")))
    };
    ranges.into_iter().map(range).collect::<Option<_>>().ok_or(Lost::Slots)
}

/// A canary for every master: the first channels whose slots they hold.
fn canaries(
    channels: &Channels,
    masters: &[(std::ops::RangeInclusive<u16>, String)],
) -> Vec<String> {
    let mut found: HashMap<&str, String> = HashMap::new();
    let servers: std::collections::HashSet<&str> =
        masters.iter().map(|(_, master)| master.as_str()).collect();
    // With thousands of names every master but one of a handful of slots is hit.
    for channel in (0..4 * u64::from(SLOTS)).map(|number| channels.canary(number)) {
        if found.len() == servers.len() {
            break;
        }
        let slot = slot(&channel);
        if let Some((_, master)) = masters.iter().find(|(slots, _)| slots.contains(&slot)) {
            found.entry(master).or_insert(channel);
        }
    }
    found.into_values().collect()
}

fn slot(channel: &str) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(channel.as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_master_has_one_canary_in_a_slot_of_its_own() {
        // The slot that the specification of Redis Cluster gives as its example.
        assert_eq!(slot("123456789"), 0x31C3);
        let masters = [(0..=99, "a"), (100..=9000, "b"), (9001..=16000, "c"), (16001..=16383, "a")];
        let masters = masters.map(|(slots, master)| (slots, master.to_owned()));
        let canaries = canaries(&Channels::new("test"), &masters);
        let mut hit: Vec<_> = canaries
            .iter()
            .filter_map(|canary| masters.iter().find(|(slots, _)| slots.contains(&slot(canary))))
            .map(|(_, master)| master.as_str())
            .collect();
        hit.sort_unstable();
        assert_eq!(hit, ["a", "b", "c"]);
    }
}
