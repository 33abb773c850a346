//! Redis servers of a test's own, to be killed, restarted and paused.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::PATIENCE;
use crate::RedisUrl;

/// The Redis that `TEST_REDIS_URL` or `TEST_REDIS_CLUSTER_URL` names; a test that
/// cannot run for want of one has failed.
pub fn redis_url(variable: &str) -> RedisUrl {
    let text =
        std::env::var(variable).unwrap_or_else(|_| panic!("set {variable} (see `make test`)"));
    text.parse().expect("the address of a Redis")
}

/// A server on a free port that keeps nothing; gone when it is dropped.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    folder: TempDir,
    cluster: bool,
    process: Option<Child>,
}

impl RedisServer {
    pub async fn start() -> Self {
        Self::start_as(false).await
    }

    async fn start_as(cluster: bool) -> Self {
        loop {
            let folder = tempfile::tempdir().expect("create a temporary folder");
            let mut server = Self { port: free_port(), folder, cluster, process: None };
            server.spawn();
            if server.answers().await {
                return server;
            }
        }
    }

    pub fn url(&self) -> RedisUrl {
        format!("redis://127.0.0.1:{}", self.port).parse().expect("an address")
    }

    /// Starts it again after it was killed.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "it was killed");
        self.spawn();
        assert!(self.answers().await, "redis-server starts");
    }

    /// Kills it at once.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.expect("kill redis-server");
        }
    }

    /// Stops it where it is, as a machine that hangs.
    pub async fn pause(&self) {
        self.signal("-STOP").await;
    }

    /// Lets it go on.
    pub async fn resume(&self) {
        self.signal("-CONT").await;
    }

    /// Becomes a replica of another server, and holds what it holds.
    pub async fn follow(&self, master: &Self) {
        let port = master.port.to_string();
        self.run(&["REPLICAOF", "127.0.0.1", &port]).await.expect("a replica");
        self.until(&["INFO", "replication"], "master_link_status:up").await;
    }

    /// Takes the place of its master, which follows it from now on.
    pub async fn take_over(&self, from: &Self) {
        self.run(&["REPLICAOF", "NO", "ONE"]).await.expect("a master");
        from.follow(self).await;
    }

    /// Waits until the answer to a command has these words in it.
    pub async fn until(&self, command: &[&str], words: &str) {
        let wait = async {
            loop {
                let answer = self.run(command).await;
                if answer.is_ok_and(|answer| format!("{answer:?}").contains(words)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the words in time");
    }

    /// Runs one command.
    pub async fn run(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut conn = client.get_multiplexed_async_connection().await?;
        let mut cmd = redis::cmd(command[0]);
        command[1..].iter().for_each(|arg| {
            cmd.arg(*arg);
        });
        cmd.query_async(&mut conn).await
    }

    fn spawn(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(self.folder.path());
        command.args(["--repl-diskless-sync-delay", "0"]);
        if self.cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.kill_on_drop(true).spawn();
        self.process = Some(process.expect("redis-server, as scripts/setup-tests installs it"));
    }

    /// Waits until it answers; no if its port was taken.
    async fn answers(&mut self) -> bool {
        let wait = async {
            loop {
                let process = self.process.as_mut().expect("a process");
                if process.try_wait().expect("a status").is_some() {
                    return false;
                }
                if self.run(&["PING"]).await.is_ok() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("redis-server starts")
    }

    async fn signal(&self, signal: &str) {
        let process = self.process.as_ref().and_then(Child::id).expect("a process");
        let sent = Command::new("kill").arg(signal).arg(process.to_string()).status().await;
        assert!(sent.expect("kill").success());
    }
}

/// A Redis Cluster of three masters.
#[derive(Debug)]
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(RedisServer::start_as(true).await);
        }
        let ends = [(0, 5460), (5461, 10922), (10923, 16383)];
        for (node, (first, last)) in nodes.iter().zip(ends) {
            let (first, last) = (i32::to_string(&first), i32::to_string(&last));
            let add = ["CLUSTER", "ADDSLOTSRANGE", &first, &last];
            node.run(&add).await.expect("give slots");
            let port = nodes[0].port.to_string();
            node.run(&["CLUSTER", "MEET", "127.0.0.1", &port]).await.expect("meet");
        }
        let cluster = Self { nodes };
        cluster.formed().await;
        cluster
    }

    pub fn url(&self) -> RedisUrl {
        let hosts: Vec<_> =
            self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis-cluster://{}", hosts.join(",")).parse().expect("an address")
    }

    /// Waits until every node knows that every slot is served.
    pub async fn formed(&self) {
        let wait = async {
            for node in &self.nodes {
                loop {
                    let info = node.run(&["CLUSTER", "INFO"]).await;
                    let info = info.map(|info| format!("{info:?}")).unwrap_or_default();
                    let known = info.contains("cluster_known_nodes:3");
                    if known && info.contains("cluster_state:ok") {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(2 * PATIENCE, wait).await.expect("the cluster forms");
    }
}

/// A port that was free, below those that the system gives to clients; the port of
/// the cluster's bus, 10000 above, is free too.
fn free_port() -> u16 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let salt = NEXT.fetch_add(7919, Ordering::Relaxed) + rand::random::<u64>() % 10_000;
        let port = 10_000 + u16::try_from(salt % 10_000).unwrap_or_default();
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}
