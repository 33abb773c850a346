//! One process of the cluster.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// How long a replica may take to be ready, or to end when it is asked to.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program with its arguments, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) program: PathBuf,
    arguments: Vec<String>,
    pub(crate) port: u16,
    pub(crate) log: PathBuf,
    process: Option<Child>,
}

impl Replica {
    pub(crate) fn new(program: PathBuf, port: u16, arguments: Vec<String>, log: PathBuf) -> Self {
        Self { program, arguments, port, log, process: None }
    }

    /// Starts the process, without waiting until it is ready.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.program.display());
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PARLANCE_") {
                command.env_remove(name);
            }
        }
        let errors = log.try_clone().expect("a log");
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
        self.process = Some(command.kill_on_drop(true).spawn().expect("a process"));
    }

    /// Whether it was started and not ended since.
    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// How much of its memory is resident, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let id = self.process.as_ref().and_then(Child::id).expect("started");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let kib: u64 = line.trim_end_matches("kB").trim().parse().expect("a number");
        kib * 1024
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }

    /// Waits until it serves.
    pub(crate) async fn ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !serves(self.port).await {
            let process = self.process.as_mut().expect("started");
            if let Some(status) = process.try_wait().expect("a status") {
                panic!("{} ended with {status}: {}", self.program.display(), tail(&self.log));
            }
            assert!(Instant::now() < end, "not ready: {}", tail(&self.log));
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.expect("killed");
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        let mut process = self.process.take().expect("started");
        let ended = timeout(PATIENCE, process.wait()).await;
        ended.unwrap_or_else(|_| panic!("it did not end: {}", tail(&self.log))).expect("a status")
    }

    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.process_id().expect("started");
        let sent = Command::new("kill").args([format!("-{signal}"), id.to_string()]).status();
        assert!(sent.await.expect("kill").success());
    }
}

pub(crate) async fn serves(port: u16) -> bool {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
    let check = async {
        let channel = endpoint.connect().await.ok()?;
        let request = HealthCheckRequest::default();
        Some(HealthClient::new(channel).check(request).await.ok()?.into_inner().status())
    };
    matches!(timeout(Duration::from_secs(2), check).await, Ok(Some(ServingStatus::Serving)))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
