//! A Postgres server of a test's own, to be crashed.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

use crate::cluster::free_port;

/// A running server; gone when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    pub async fn start() -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Postgres");
        let versions = versions.map(|version| version.expect("a folder").path().join("bin"));
        let programs = versions.max().expect("Postgres");
        let folder = tempfile::Builder::new().prefix("parlance-postgres-").tempdir();
        let server = Self { programs, folder: folder.expect("a folder"), port: free_port() };
        // Postgres does not run as root.
        if is_root() {
            let path = server.folder.path();
            let owned = Command::new("chown").arg("postgres").arg(path).status().await;
            assert!(owned.expect("chown").success());
        }
        let data = server.data();
        let settings = ["-U", "parlance", "--auth=trust", "-E", "UTF8", "--locale=C"];
        // Small, since tests copy it.
        let small = ["--no-sync", "--wal-segsize=1"];
        server.run("initdb", &[&["-D", &data], &settings[..], &small[..]].concat()).await;
        server.begin().await;
        server
    }

    pub fn url(&self) -> String {
        format!("postgres://parlance@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it without a checkpoint, as a crash would, and starts it again.
    pub async fn crash(&self) {
        self.end().await;
        self.begin().await;
    }

    /// Lets no transaction write from now on unless it asks to, or all again.
    pub async fn reads_only(&self, only: bool) {
        let alter = if only {
            "SET default_transaction_read_only = on"
        } else {
            "RESET default_transaction_read_only"
        };
        for statement in [&format!("ALTER SYSTEM {alter}"), "SELECT pg_reload_conf()"] {
            self.run("psql", &["-qX", "-v", "ON_ERROR_STOP=1", "-c", statement, &self.url()]).await;
        }
    }

    /// Ends it without a checkpoint.
    pub async fn end(&self) {
        self.run("pg_ctl", &["stop", "-D", &self.data(), "-m", "immediate", "-s"]).await;
    }

    /// Starts it, and waits until it has recovered.
    pub async fn begin(&self) {
        let (data, folder) = (self.data(), self.folder.path().display());
        // What it has written survives it, as it is not the machine that ends.
        let options = format!(
            "-p {} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=off",
            self.port
        );
        let log = format!("{folder}/server.log");
        self.run("pg_ctl", &["start", "-D", &data, "-s", "-w", "-l", &log, "-o", &options]).await;
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// Where a copy of what it stores is kept.
    pub(crate) fn copy(&self) -> String {
        self.folder.path().join("copy").display().to_string()
    }

    /// Runs a program of Postgres.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str]) {
        self.run_any(&self.programs.join(program).display().to_string(), arguments).await;
    }

    /// Runs a program as the owner of the data.
    pub(crate) async fn run_any(&self, program: &str, arguments: &[&str]) {
        let status = as_owner(Path::new(program))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.await.expect("a program").success(), "{program} {arguments:?}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data();
        let mut stop = as_owner(&self.programs.join("pg_ctl")).into_std();
        stop.args(["stop", "-D", &data, "-m", "immediate", "-s"]).current_dir("/");
        if let Err(error) = stop.status() {
            eprintln!("cannot end Postgres: {error}");
        }
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn as_owner(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}
