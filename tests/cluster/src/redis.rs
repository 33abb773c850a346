//! The Redis of a cluster, or the Redis Cluster, to be harmed.

use parlance_bus::RedisUrl;
use parlance_bus::testing::{RedisCluster, RedisServer};

/// Makes the markers of presence a minute older, if all shards were heard of since the last
/// gap. What is heard of later than that would make them young again.
const SETTLE: &str = "
    local time, alive, markers = redis.call('TIME'), 0, {}
    for shard = 0, 15 do
      local marker = 'parlance:default:presence:{' .. shard .. '}'
      local heard = tonumber(redis.call('HGET', marker, 'alive') or 0)
      if time[1] * 1000 - heard < 2000 then
        alive = alive + 1
      end
      markers[#markers + 1] = marker
    end
    for _, marker in ipairs(markers) do
      if alive == #markers then
        redis.call('HINCRBY', marker, 'since', -60000)
      end
    end
    return 'alive: ' .. alive";

/// One server, or three that form a Redis Cluster.
#[derive(Debug)]
pub enum Redis {
    One(RedisServer),
    Three(RedisCluster),
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::One(RedisServer::start().await)
    }

    pub(crate) async fn start_cluster() -> Self {
        Self::Three(RedisCluster::start().await)
    }

    fn servers(&self) -> &[RedisServer] {
        match self {
            Self::One(server) => std::slice::from_ref(server),
            Self::Three(cluster) => &cluster.nodes,
        }
    }

    fn first(&mut self) -> &mut RedisServer {
        match self {
            Self::One(server) => server,
            Self::Three(cluster) => &mut cluster.nodes[0],
        }
    }

    /// As the services are told.
    pub fn url(&self) -> String {
        let urls: Vec<_> = self.servers().iter().map(RedisServer::url).collect();
        let servers = urls.iter().flat_map(RedisUrl::servers);
        match self {
            Self::One(_) => servers.cloned().collect(),
            Self::Three(_) => {
                let hosts: Vec<_> = servers.map(|url| url.trim_start_matches("redis://")).collect();
                format!("redis-cluster://{}", hosts.join(","))
            }
        }
    }

    /// Kills the server; of a cluster, one of three.
    pub async fn kill(&mut self) {
        self.first().kill().await;
    }

    /// Starts the one that was killed; it remembers nothing.
    pub async fn restart(&mut self) {
        self.first().restart().await;
    }

    /// Stops every server where it is.
    pub async fn pause(&self) {
        for server in self.servers() {
            server.pause().await;
        }
    }

    pub async fn resume(&self) {
        for server in self.servers() {
            server.resume().await;
        }
    }

    /// Lets every server forget what it knows.
    pub async fn flush(&self) {
        self.run(&["FLUSHALL"]).await;
    }

    /// Lets presence be sure again that it holds all sessions, as a minute without a loss
    /// would; once its nodes have given signs of life. For one server.
    pub async fn settles(&self) {
        self.servers()[0].until(&["EVAL", SETTLE, "0"], "alive: 16").await;
    }

    /// Cuts the connections of all clients.
    pub async fn cut(&self) {
        self.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        self.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    }

    async fn run(&self, command: &[&str]) {
        for server in self.servers() {
            server.run(command).await.expect("done");
        }
    }
}
