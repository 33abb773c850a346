//! The embedded mode: all services in one process, on SQLite.

use std::path::Path;

use parlance_rpc::{Minter, Role, Secret};
use tempfile::TempDir;

use crate::Client;
use crate::cluster::{channel, free_port, programs, token};
use crate::replica::Replica;

/// A running `parlance`, with the settings that it has by default; only the rate of a
/// caller is without limit.
#[derive(Debug)]
pub struct Embedded {
    replica: Replica,
    folder: TempDir,
    minter: Minter,
}

impl Embedded {
    /// Starts it on an empty folder, and waits until it is ready.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("parlance-embedded-").tempdir();
        let folder = folder.expect("a folder");
        let (data, key) = (folder.path().join("data"), folder.path().join("callers.key"));
        std::fs::write(&key, Secret::random().as_bytes()).expect("a key");
        let secret = Secret::read(&key).expect("a secret");
        let (issuer, audience) = ("parlance".to_owned(), "parlance".to_owned());
        let port = free_port();
        let arguments = [
            ("--listen", format!("127.0.0.1:{port}")),
            ("--store", format!("sqlite://{}", data.display())),
            ("--auth-key", format!("hs256:{}", key.display())),
            ("--rate", "0".to_owned()),
            ("--tenant-rate", "0".to_owned()),
            ("--service-rate", "0".to_owned()),
        ];
        let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let (program, log) = (programs().await.join("parlance"), folder.path().join("log"));
        let replica = Replica::new(program, port, arguments.collect(), log);
        let minter = Minter { secret, issuer, audience };
        let mut embedded = Self { replica, folder, minter };
        embedded.replica.start();
        embedded.replica.ready().await;
        embedded
    }

    /// The folder that all of it is in; more may be put there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.replica.port)
    }

    pub fn process_id(&self) -> u32 {
        self.replica.process_id().expect("it runs")
    }

    /// A client that is a user.
    pub fn user(&self, user: &str) -> Client {
        self.client(Role::User, user)
    }

    /// A client that is a backend and acts for the tenant.
    pub fn service(&self) -> Client {
        self.client(Role::Service, "tests")
    }

    /// A token of a user.
    pub fn token(&self, user: &str) -> String {
        token(&self.minter, Role::User, user)
    }

    fn client(&self, role: Role, subject: &str) -> Client {
        let channel = channel(self.replica.port);
        let channels = std::array::from_fn(|_| vec![channel.clone()]);
        Client::new(channels, &token(&self.minter, role, subject))
    }

    /// Ends it; its folder goes with it.
    pub async fn finish(mut self) {
        self.replica.kill().await;
    }

    /// Stops it, and starts it again on the same data.
    pub async fn restart(&mut self) {
        assert!(self.replica.stop().await.success(), "it ends well");
        self.replica.start();
        self.replica.ready().await;
    }
}
